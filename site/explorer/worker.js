/* What runs beside the page, so that it stays responsive: a worker made from this function's text
   and the engine's. Where a browser gives a page in a folder no worker, the page calls it itself.

   in:  { kind: "model", id, head, text }          a model's script, to be kept by its name
        { kind: "explore", id, job }               attack an image; a later id ends an earlier one
   out: { kind: "model" | "start" | "step" | "done" | "error", id, ... }                          */
function pagWorker(engine, post) {
  "use strict";
  const models = new Map();
  const pause = () => new Promise((resume) => setTimeout(resume)); // lets a later message in
  let latest = 0;

  async function keepModel({ id, head, text }) {
    try {
      models.set(head.name, engine.model(await engine.readModel(head, text)));
      post({ kind: "model", id, name: head.name });
    } catch (error) {
      post({ kind: "error", id, message: error.message });
    }
  }

  function measured(net, x, label) { // the gradient of the loss at the image's label
    const { gradient } = net.gradient(x, label), shape = net.shape;
    return { gradient, cosine: engine.signedCosine(x, gradient, shape),
             edges: engine.edgeCorrelation(x, gradient, shape) };
  }

  // job: { model, evaluator, x, label (null: what the model sees), start (noise, or none),
  //        attack: { norm, eps, steps, target (null: away from the label) } }
  async function explore({ id, job }) {
    const net = models.get(job.model), evaluator = models.get(job.evaluator);
    const seen = (x) => ({ model: net.probabilities(x), evaluator: evaluator.probabilities(x) });
    const first = seen(job.x), began = performance.now();
    const label = job.label === null ? first.model.indexOf(Math.max(...first.model)) : job.label;
    const measures = measured(net, job.x, label), seconds = (performance.now() - began) / 1000;
    post({ kind: "start", id, label, seen: first, seconds, ...measures });
    const targeted = job.attack.target !== null;
    const attack = { ...job.attack, targeted, label: targeted ? job.attack.target : label };
    post({ kind: "done", id, seconds: await walk(id, job, net, attack, seen) });
  }

  async function walk(id, job, net, attack, seen) { // seconds of the attack; null: given up
    let x = job.start ? engine.started(job.x, job.start) : job.x, spent = 0;
    for (let k = 1; k <= attack.steps && attack.eps > 0; k++) {
      await pause();
      if (id !== latest) return null;
      const began = performance.now();
      x = engine.step(net, x, job.x, attack);
      spent += performance.now() - began;
      post({ kind: "step", id, k, x, seen: seen(x) });
    }
    return spent / 1000;
  }

  return (message) => {
    if (message.kind === "model") return keepModel(message);
    latest = message.id;
    return explore(message).catch((error) =>
      post({ kind: "error", id: message.id, message: error.message }));
  };
}
