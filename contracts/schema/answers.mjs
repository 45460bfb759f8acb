// Validates what the emulator answers and sends against WorkOS's OpenAPI document.

import { SECRET, receiver, start, until } from "../emulator.mjs";
import { answerErrors, eventErrors, eventTypes } from "./schemas.mjs";

let checked = 0;
let deviations = 0;
function report(what, errors) {
  checked += 1;
  for (const error of errors) {
    console.log(`DEVIATION ${what}: ${error}`);
    deviations += 1;
  }
}

const hooks = await receiver();
const emulator = await start("--endpoint", hooks.url, "--secret", SECRET);
const { change } = emulator;

/** Calls the API as often as its limits want; answers status and body. */
async function call(method, path, { body, key = emulator.key } = {}) {
  for (;;) {
    const response = await fetch(emulator.url + path, {
      method: method.toUpperCase(),
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
      body: body && JSON.stringify(body),
    });
    const text = await response.text();
    if (response.status === 429 && response.headers.get("retry-after")) {
      await new Promise((done) => setTimeout(done, 1000 * response.headers.get("retry-after")));
      continue;
    }
    let json;
    try {
      json = text === "" ? undefined : JSON.parse(text);
    } catch {
      json = text;
    }
    return { status: response.status, json };
  }
}

/** Calls `path`, which the document writes as `template`, and validates the answer. */
async function check(method, template, path, status, options) {
  const answer = await call(method, path, options);
  const what = `${method.toUpperCase()} ${path} -> ${answer.status}`;
  const wrong = answer.status === status ? [] : [`${status} was expected`];
  report(what, [...wrong, ...answerErrors(method, template, answer.status, answer.json)]);
  return answer.json;
}

// A world with every form of record.
const acme = await change("POST", "/directories", { name: "Acme", domain: "acme.example" });
const other = await change("POST", "/directories", { name: "Other", type: "gsuite directory" });
const groups = [];
for (const name of ["Engineering", "Sales", "Passing"]) {
  groups.push(await change("POST", `/directories/${acme}/groups`, { name }));
}
const users = [];
for (let number = 0; number < 12; number += 1) {
  const person = { first_name: "Ada", last_name: `Number${number}`, email: `ada.${number}@acme.example` };
  if (number % 2) Object.assign(person, { role: "admin", job_title: "Engineer", department: "Mill" });
  if (number % 3 === 0) person.raw_attributes = { nested: { list: [1, null, "x"] } };
  const user = await change("POST", `/directories/${acme}/users`, person);
  await change("PUT", `/groups/${groups[number % 3]}/members/${user}`);
  users.push(user);
}
users.push(await change("POST", `/directories/${acme}/users`, { first_name: "", last_name: "", email: "" }));
await change("PATCH", `/users/${users[0]}`, { job_title: "Countess", role: "owner", email: "" });
await change("PATCH", `/users/${users[1]}`, { first_name: "", last_name: "", job_title: "", role: "" });
await change("POST", `/users/${users[2]}/deactivate`, { how: "updated_inactive" });
await change("POST", `/users/${users[3]}/deactivate`, { how: "deleted_kept" });
await change("POST", `/users/${users[4]}/deactivate`, { how: "deleted_gone" });
await change("POST", `/users/${users[5]}/deactivate`, { how: "updated_inactive" });
await change("POST", `/users/${users[5]}/reactivate`);
await change("PATCH", `/groups/${groups[0]}`, { name: "Research" });
await change("DELETE", `/groups/${groups[1]}/members/${users[7]}`);
await change("DELETE", `/groups/${groups[2]}`);
await change("DELETE", `/directories/${other}`);

// Lists, by pages in both directions, and single records.
for (const [template, filter] of [
  ["/directories", ""],
  ["/directory_users", `directory=${acme}`],
  ["/directory_users", `group=${groups[0]}`],
  ["/directory_groups", `directory=${acme}`],
  ["/directory_groups", `user=${users[0]}`],
]) {
  for (const order of ["asc", "desc", "normal"]) {
    const first = await check("get", template, `${template}?${filter}&limit=2&order=${order}`, 200);
    const after = first?.list_metadata?.after;
    if (after) {
      const next = await check("get", template, `${template}?${filter}&limit=2&order=${order}&after=${after}`, 200);
      await check("get", template, `${template}?${filter}&limit=2&before=${next?.list_metadata?.before}`, 200);
    }
  }
  await check("get", template, `${template}?${filter}&limit=101`, 422);
}
await check("get", "/directory_users", "/directory_users", 422);
await check("get", "/directory_groups", "/directory_groups", 422);
await check("get", "/directory_users", "/directory_users?directory=directory_01", 404);
await check("get", "/directory_groups", "/directory_groups?directory=directory_01", 404);
await check("get", "/directories/{id}", `/directories/${acme}`, 200);
await check("get", "/directories/{id}", "/directories/directory_01", 404);
for (const user of users) {
  await check("get", "/directory_users/{id}", `/directory_users/${user}`, user === users[4] ? 404 : 200);
}
for (const group of groups) {
  await check("get", "/directory_groups/{id}", `/directory_groups/${group}`, group === groups[2] ? 404 : 200);
}

// Events.
const types = eventTypes("dsync.").join(",");
let events = await check("get", "/events", `/events?events=${types}&limit=20&order=asc`, 200);
while (events?.list_metadata?.after) {
  const after = events.list_metadata.after;
  events = await check("get", "/events", `/events?events=${types}&limit=20&order=asc&after=${after}`, 200);
}
await check("get", "/events", "/events?events=dsync.user.created,dsync.deleted&order=desc", 200);
await check("get", "/events", `/events?events=${types}&limit=101`, 422);

// The portal.
const organization = (await call("get", `/directories/${acme}`)).json.organization_id;
const link = (body) => ["post", "/portal/generate_link", "/portal/generate_link", 201, { body }];
await check(...link({ organization, intent: "dsync" }));
await check(...link({ organization, intent: "dsync", return_url: "https://acme.example/back" }));

// Webhook endpoints.
const endpoint = { endpoint_url: "https://acme.example/hooks", events: ["dsync.user.created", "dsync.deleted"] };
const made = await check("post", "/webhook_endpoints", "/webhook_endpoints", 201, { body: endpoint });
await check("post", "/webhook_endpoints", "/webhook_endpoints", 409, { body: endpoint });
await check("post", "/webhook_endpoints", "/webhook_endpoints", 422, { body: {} });
await check("get", "/webhook_endpoints", "/webhook_endpoints", 200);
const one = (method, id, status, body) =>
  check(method, "/webhook_endpoints/{id}", `/webhook_endpoints/${id}`, status, body && { body });
if (made?.id) {
  await one("patch", made.id, 200, { status: "disabled" });
  await one("delete", made.id, 204);
}
await one("patch", "we_01", 404, { status: "enabled" });
await one("delete", "we_01", 404);

// The document has no 401; its words for one are those of WorkOS's page on errors.
const stranger = await call("get", "/directories", { key: "sk_unknown" });
report("GET /directories with a wrong key", stranger.status === 401 && stranger.json?.message ? [] : ["not a 401"]);

// Webhooks: the settled number of deliveries is that of the events.
let delivered = -1;
await until("every webhook arrives", async () => {
  const deliveries = await fetch(`${emulator.url}/emulator/deliveries`).then((answer) => answer.json());
  const before = delivered;
  delivered = hooks.arrivals.length;
  return delivered === before && delivered >= (deliveries.result ?? deliveries).length;
});
const seen = new Set();
for (const { body } of hooks.arrivals) {
  const event = JSON.parse(body);
  seen.add(event.event);
  report(`webhook ${event.event}`, eventErrors(event) ?? ["the document does not know it"]);
  // WorkOS's Node SDK 8 hashes what was parsed and is written again, so the bytes have to survive that.
  report(`webhook ${event.event}`, JSON.stringify(event) === body ? [] : ["JavaScript writes it otherwise"]);
}
// The emulator has no way to pause a directory.
const missing = eventTypes("dsync.").filter((type) => !seen.has(type) && type !== "dsync.deactivated");
report("webhooks", missing.map((type) => `none of ${type}`));

emulator.stop();
hooks.close();
console.log(`answers and webhooks: ${checked} checked, ${deviations} deviations`);
process.exitCode = deviations ? 1 : 0;
