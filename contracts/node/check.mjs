// Runs emulator/examples/node, with WorkOS's Node SDK as it is, against an emulator, and holds what it prints to account.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { SECRET, freePort, start, until } from "../emulator.mjs";

const USERS = 230;
const port = await freePort();
const hook = `http://127.0.0.1:${port}/webhooks`;
const emulator = await start("--users", String(USERS), "--endpoint", hook, "--secret", SECRET);

const lines = [];
const example = spawn(process.execPath, [fileURLToPath(new URL("../../emulator/examples/node/index.mjs", import.meta.url))], {
  env: { ...process.env, PORT: port, WORKOS_API_BASE_URL: emulator.url, WORKOS_API_KEY: emulator.key, WORKOS_WEBHOOK_SECRET: SECRET },
  stdio: ["ignore", "pipe", "inherit"],
});
process.once("exit", () => example.kill());
let rest = "";
example.stdout.on("data", (chunk) => {
  const parts = (rest + chunk).split("\n");
  rest = parts.pop();
  lines.push(...parts);
});
let ended = false;
example.once("exit", () => (ended = true));

const has = (text) => lines.some((line) => line.startsWith(text));
await until("everything is listed", () => ended || has("listed;"));
for (const line of [
  "1 directories",
  `Acme: ${USERS} users, 4 groups`,
  `Acme / Everyone: ${USERS} members`,
  "1 dsync.activated",
  `${USERS} dsync.user.created`,
  "4 dsync.group.created",
  `${2 * USERS} dsync.group.user_added`,
]) {
  assert.ok(lines.includes(line), `"${line}" is missing from:\n${lines.filter((line) => !line.startsWith("webhook")).join("\n")}`);
}

// A change by the control API arrives, and the SDK accepts it and every other.
const directory = JSON.parse(
  await (await fetch(`${emulator.url}/directories`, { headers: { authorization: `Bearer ${emulator.key}` } })).text(),
).data[0].id;
const person = { first_name: "Zoë", last_name: "Ünïcode", email: "zoe@acme.example", raw_attributes: { "10": 1, "9": 2, half: 0.5, whole: 1 } };
const user = await emulator.change("POST", `/directories/${directory}/users`, person);
await emulator.change("PATCH", `/users/${user}`, { job_title: "Countess", role: "admin" });
await emulator.change("POST", `/users/${user}/deactivate`, { how: "deleted_gone" });
await emulator.change("DELETE", `/directories/${directory}`);
const expected = 1 + 4 + USERS + 2 * USERS + 4;
const accepted = () => new Set(lines.filter((line) => line.startsWith("webhook "))).size;
await until("every webhook is accepted", () => accepted() >= expected || has("refused"));
assert.deepEqual(lines.filter((line) => line.startsWith("refused")), []);
assert.equal(accepted(), expected);
assert.ok(has("webhook dsync.deleted"));

const forged = await fetch(hook, {
  method: "POST",
  headers: { "workos-signature": `t=${Date.now()}, v1=${"0".repeat(64)}` },
  body: "{}",
});
assert.equal(forged.status, 401);
await until("the forged one is refused", () => has("refused"));

example.kill();
emulator.stop();
console.log(`node: ${expected} webhooks accepted, every list read`);
