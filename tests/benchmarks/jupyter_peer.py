"""A Jupyter server with a hand-written prediction handler: what people write instead of nbaas.

The model runs in the server's own process, on its event loop; login and authorizer as they should.
"""

from __future__ import annotations

import json

import torch
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.serverapp import ServerApp
from tornado import web


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    layers = torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
    return torch.nn.Sequential(*layers).eval()


class Infer(APIHandler):
    auth_resource = "peer"

    @web.authenticated
    @authorized("write", resource="peer")
    async def post(self) -> None:
        (entry,) = json.loads(self.request.body)["inputs"]
        x = torch.tensor(entry["data"], dtype=torch.float32).reshape(entry["shape"])
        with torch.inference_mode():
            y = self.settings["peer_model"](x)
        output = {"name": "output", "datatype": "FP32", "shape": list(y.shape)}
        output["data"] = y.flatten().tolist()
        self.finish(json.dumps({"model_name": "digits", "outputs": [output]}))


class PeerApp(ServerApp):
    def init_webapp(self) -> None:
        super().init_webapp()
        self.web_app.settings["peer_model"] = model()
        self.web_app.add_handlers(".*$", [(self.base_url + "peer/infer", Infer)])


if __name__ == "__main__":
    torch.set_num_threads(1)
    PeerApp.launch_instance()
