// Starts `workos-emulator serve` and changes its world.

import { spawn } from "node:child_process";
import { createServer } from "node:http";

export const SECRET = "whsec_contract";

/** A server that keeps every request; `next` answers the first that is not yet taken and fits. */
export async function receiver() {
  const arrivals = [];
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    arrivals.push({ headers: request.headers, body: Buffer.concat(chunks).toString("utf8") });
    response.end();
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return { url: `http://127.0.0.1:${server.address().port}/`, arrivals, close: () => server.close() };
}

export async function freePort() {
  const server = createServer();
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

/** Asks until the answer is true, for at most half a minute. */
export async function until(what, condition) {
  for (const deadline = Date.now() + 30_000; Date.now() < deadline; ) {
    if (await condition()) return;
    await new Promise((done) => setTimeout(done, 20));
  }
  throw new Error(`${what}: not within 30 s`);
}

/** An emulator of its own, with `change` for its control routes. */
export async function start(...options) {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const child = spawn(process.env.WORKOS_EMULATOR, ["serve", "--port", String(port), ...options], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  const stop = () => child.kill("SIGINT");
  process.once("exit", stop);
  await until("the emulator listens", () => fetch(`${url}/emulator/deliveries`).then(() => true, () => false));
  const change = async (method, path, body) => {
    const response = await fetch(`${url}/emulator${path}`, {
      method,
      headers: body ? { "content-type": "application/json" } : {},
      body: body && JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    return (await response.json()).result;
  };
  return { url, port, key: "sk_test_emulator", change, stop };
}
