// The panel as an anywidget.  A stop goes over the comm and, where the page is Jupyter's own, to the
// server as well: with an older ipykernel a comm waits until the cell ends, the server does not.
import { createPanel } from "./panel.js";

function askServer(job, verb) {
  const config = document.getElementById("jupyter-config-data");
  if (!config || !job) return;
  const { baseUrl = "/", token = "" } = JSON.parse(config.textContent ?? "{}");
  const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/)?.[1] ?? "";
  const headers = { "X-XSRFToken": decodeURIComponent(xsrf), ...(token ? { Authorization: `token ${token}` } : {}) };
  // A server that does not know the job (another machine's kernel) answers 404: the comm does it.
  fetch(`${baseUrl}nbaas/api/jobs/${encodeURIComponent(job)}/${verb}`, { method: "POST", credentials: "same-origin", headers }).catch(() => {});
}

export default {
  render({ model, el }) {
    const send = (message) => {
      model.send(message);
      if (message.kind === "stop" || message.kind === "kill") askServer(model.get("view").id, message.kind);
    };
    const panel = createPanel(uPlot, el, { send });
    const onView = () => panel.update(model.get("view"));
    let answered = false;
    const onMessage = (message, buffers) => {
      answered ||= Boolean(message.reset);
      if (message.view?.id) panel.update(message.view);
      panel.data(message, buffers ?? []);
    };
    // The first message of a comm may go to the shell that the running cell blocks, before the page
    // has its own subshell: it is sent again until there is an answer.
    const ask = (tries) => {
      if (answered || tries === 0) return;
      model.send({ kind: "ready" });
      setTimeout(() => ask(tries - 1), 1000);
    };
    model.on("change:view", onView);
    model.on("msg:custom", onMessage);
    onView();
    ask(4);
    return () => {
      answered = true;
      model.off("change:view", onView);
      model.off("msg:custom", onMessage);
      panel.destroy();
    };
  },
};
