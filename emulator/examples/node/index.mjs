// WorkOS's Node SDK, unmodified, with workos-emulator: receives webhooks, and lists what a directory holds.
//
//   cargo run -p workos-emulator -- serve --users 50 --endpoint http://127.0.0.1:3000/webhooks
//   npm install && npm start

import { createServer } from "node:http";
import { WorkOS } from "@workos-inc/node";

const api = new URL(process.env.WORKOS_API_BASE_URL ?? "http://127.0.0.1:8085");
const key = process.env.WORKOS_API_KEY ?? "sk_test_emulator";
const secret = process.env.WORKOS_WEBHOOK_SECRET ?? "whsec_emulator";

// The SDK takes its base URL in three parts.
const workos = new WorkOS(key, {
  apiHostname: api.hostname,
  port: Number(api.port),
  https: api.protocol === "https:",
});

// Webhooks: the raw text is what was signed; `constructEvent` verifies it, and parses it only then.
const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  try {
    const event = await workos.webhooks.constructEvent({
      payload: Buffer.concat(chunks).toString("utf8"),
      sigHeader: request.headers["workos-signature"] ?? "",
      secret,
    });
    console.log(`webhook ${event.event} ${event.id}`);
    response.writeHead(200).end();
  } catch (error) {
    console.log(`refused: ${error.message}`);
    response.writeHead(401).end();
  }
});

async function list() {
  const directories = await (await workos.directorySync.listDirectories()).autoPagination();
  console.log(`${directories.length} directories`);
  for (const { id, name } of directories) {
    const users = await (await workos.directorySync.listUsers({ directory: id })).autoPagination();
    const groups = await (await workos.directorySync.listGroups({ directory: id })).autoPagination();
    console.log(`${name}: ${users.length} users, ${groups.length} groups`);
    for (const group of groups) {
      const members = await (await workos.directorySync.listUsers({ group: group.id })).autoPagination();
      console.log(`${name} / ${group.name}: ${members.length} members`);
    }
  }
  const types = ["dsync.activated", "dsync.user.created", "dsync.group.created", "dsync.group.user_added"];
  const counts = new Map(types.map((type) => [type, 0]));
  let after;
  do {
    const page = await workos.events.listEvents({ events: types, limit: 100, after });
    for (const { event } of page.data) counts.set(event, counts.get(event) + 1);
    after = page.listMetadata.after;
  } while (after);
  for (const [type, count] of counts) console.log(`${count} ${type}`);
}

const port = Number(process.env.PORT ?? 3000);
server.listen(port, "127.0.0.1", async () => {
  console.log(`webhooks are taken at http://127.0.0.1:${server.address().port}/webhooks`);
  try {
    await list();
    console.log("listed; change something, or stop with Ctrl-C");
  } catch (error) {
    console.error(`could not list: ${error.message}`);
    process.exit(1);
  }
});
