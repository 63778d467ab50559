// Talking to the service: every failure becomes a sentence for a person.

export class Trouble extends Error {
  constructor(message, status = 0, wait = 0) {
    super(message);
    this.status = status;
    this.wait = wait;
  }
}

const KEY = "focus-token";
let askToken = async () => null;
export function onTokenNeeded(ask) { askToken = ask; }

async function call(path, options = {}) {
  for (;;) {
    const token = sessionStorage.getItem(KEY);
    let answer;
    try {
      answer = await fetch(path, { ...options, headers: { ...(token ? { Authorization: `Bearer ${token}` } : {}), ...options.headers } });
    } catch {
      throw new Trouble("The service does not answer. Is focus serve still running?");
    }
    if (answer.ok) return answer;
    if (answer.status === 401) {
      sessionStorage.setItem(KEY, await askToken(Boolean(token)));
      continue;
    }
    const told = await answer.json().catch(() => ({}));
    throw new Trouble(told.error || `The service answered ${answer.status}.`, answer.status, Number(answer.headers.get("Retry-After")) || 0);
  }
}

/** Again while the service is full or ends, with patience. */
async function patiently(ask) {
  for (let attempt = 0; ; attempt++) {
    try {
      return await ask();
    } catch (trouble) {
      if (trouble.status !== 429 || attempt > 30) throw trouble;
      await new Promise(done => setTimeout(done, 1000 * Math.max(1, trouble.wait)));
    }
  }
}

export const models = async () => (await call("/v1/models")).json();

/** The mask of an image as a Blob, the very file that focus predict writes. */
export function mask(file, model) {
  return patiently(async () => (await call(`/v1/predict?form=mask&format=png&model=${encodeURIComponent(model)}`, post(file))).blob());
}

/** The image as a model reads it, for formats that browsers do not show. */
export const read = file => patiently(async () => (await call("/v1/read", post(file))).blob());

export async function example(model, number) {
  const answer = await call(`/v1/example?model=${encodeURIComponent(model)}&number=${number}`);
  return new File([await answer.blob()], `example-${number}.png`, { type: "image/png" });
}

export async function keep(image, maskBlob) {
  const form = new FormData();
  form.append("image", image, "image");
  form.append("mask", maskBlob, "mask.png");
  return (await call("/v1/pairs", { method: "POST", body: form })).json();
}

/** What a model sees on its way to the mask: groups of images, each with a caption. */
export const inside = (file, model) => patiently(async () => (await call(`/v1/explain?model=${encodeURIComponent(model)}`, post(file))).json());

/** Prompt pairs, the best first, by how well they tell a mask from the rest. */
export async function judge(image, maskBlob, model, foreground, background) {
  const form = new FormData();
  form.append("image", image, "image");
  form.append("mask", maskBlob, "mask.png");
  const query = new URLSearchParams({ model, foreground, background });
  return (await call(`/v1/prompts?${query}`, { method: "POST", body: form })).json();
}

const post = file => ({ method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } });
