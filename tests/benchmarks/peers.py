"""What a practitioner would write with each server; mosec and LitServe batch dynamically, as nbaas does.

Each program is run as `python peer.py PORT MODEL WORKERS`; BENCH_PORT, BENCH_MODEL and BENCH_WORKERS
say the same to those that read their own command line.
"""

from __future__ import annotations

HEAD = """
import json, os, sys
import torch
PORT, WORKERS = int(os.environ["BENCH_PORT"]), int(os.environ["BENCH_WORKERS"])
torch.set_num_threads(1)
torch.manual_seed(0)
exec(open(os.environ["BENCH_MODEL"]).read())
model = Net().eval()
def answer(rows):
    with torch.inference_mode():
        return model(torch.tensor(rows)).tolist()
"""
PEERS = {
    "starlette": HEAD
    + """
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
async def predict(request):
    return JSONResponse({"outputs": answer((await request.json())["inputs"])})
app = Starlette(routes=[Route("/predict", predict, methods=["POST"])])
if __name__ == "__main__":
    run = {"workers": WORKERS} if WORKERS > 1 else {}
    uvicorn.run("peer:app" if run else app, port=PORT, log_level="error", access_log=False, **run)
""",
    "fastapi": HEAD
    + """
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
class Body(BaseModel):
    inputs: list
app = FastAPI()
@app.post("/predict")
async def predict(body: Body):
    return {"outputs": answer(body.inputs)}
if __name__ == "__main__":
    run = {"workers": WORKERS} if WORKERS > 1 else {}
    uvicorn.run("peer:app" if run else app, port=PORT, log_level="error", access_log=False, **run)
""",
    "tornado": HEAD
    + """
import asyncio
import tornado.httpserver, tornado.netutil, tornado.process, tornado.web
class Predict(tornado.web.RequestHandler):
    def post(self):
        self.finish({"outputs": answer(json.loads(self.request.body)["inputs"])})
async def main():
    server = tornado.httpserver.HTTPServer(tornado.web.Application([("/predict", Predict)]))
    server.add_sockets(sockets)
    await asyncio.Event().wait()
sockets = tornado.netutil.bind_sockets(PORT, "127.0.0.1")
if WORKERS > 1:
    tornado.process.fork_processes(WORKERS)
asyncio.run(main())
""",
    "mosec": """
import os, sys
PORT, SOURCE = os.environ["BENCH_PORT"], os.environ["BENCH_MODEL"]
WORKERS = int(os.environ["BENCH_WORKERS"])
from mosec import Server, Worker
class Inference(Worker):
    def __init__(self):
        import torch
        torch.set_num_threads(1); torch.manual_seed(0)
        namespace = {}
        exec(open(SOURCE).read(), namespace)
        self.torch, self.model = torch, namespace["Net"]().eval()
    def forward(self, data):
        sizes = [len(body["inputs"]) for body in data]
        with self.torch.inference_mode():
            out = self.model(self.torch.tensor([row for body in data for row in body["inputs"]])).tolist()
        it = iter(out)
        return [{"outputs": [next(it) for _ in range(size)]} for size in sizes]
if __name__ == "__main__":
    sys.argv = [sys.argv[0], "--port", PORT, "--timeout", "10000"]
    server = Server()
    server.append_worker(Inference, num=WORKERS, max_batch_size=32, max_wait_time=1)
    server.run()
""",
    "litserve": """
import sys
PORT, SOURCE, WORKERS = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
import litserve as ls, torch
class API(ls.LitAPI):
    def setup(self, device):
        torch.set_num_threads(1); torch.manual_seed(0)
        namespace = {}
        exec(open(SOURCE).read(), namespace)
        self.model = namespace["Net"]().eval()
    def decode_request(self, request):
        return torch.tensor(request["inputs"])
    def batch(self, inputs):
        self.sizes = [len(x) for x in inputs]
        return torch.cat(inputs)
    def predict(self, x):
        with torch.inference_mode():
            return self.model(x)
    def unbatch(self, output):
        return list(output.split(self.sizes))
    def encode_response(self, output):
        return {"outputs": output.tolist()}
if __name__ == "__main__":
    server = ls.LitServer(API(max_batch_size=32, batch_timeout=0.001), accelerator="cpu",
                            workers_per_device=WORKERS)
    server.run(port=PORT, generate_client_file=False, log_level="error")
""",
}
MODULES = {"fastapi": "fastapi", "mosec": "mosec", "litserve": "litserve", "starlette": "starlette",
           "tornado": "tornado"}  # fmt: skip
ROUTES = {"mosec": "/inference"}
