// The handler as WorkOS's documentation shows it: Express, `constructEvent` of the official SDK, then the database.
// MODE=await answers once the work is done; MODE=ack-first answers at once and works afterwards, as is recommended there.

import express from "express";
import { WorkOS } from "@workos-inc/node";
import { addMember, createTables, handle, upsertGroup, upsertUser } from "./store.mjs";

const { MODE, PORT, WORKOS_API_BASE_URL, WORKOS_API_KEY, WORKOS_WEBHOOK_SECRET } = process.env;
const api = new URL(WORKOS_API_BASE_URL);
const workos = new WorkOS(WORKOS_API_KEY, {
  apiHostname: api.hostname,
  port: Number(api.port),
  https: api.protocol === "https:",
});
let underWay = 0;
let failed = 0;

async function work(event) {
  underWay += 1;
  try {
    await handle(event);
  } catch (error) {
    failed += 1;
    throw error;
  } finally {
    underWay -= 1;
  }
}

const app = express();
app.use(express.json());

app.post("/webhooks", async (request, response) => {
  let event;
  try {
    event = await workos.webhooks.constructEvent({
      payload: request.body,
      sigHeader: request.headers["workos-signature"],
      secret: WORKOS_WEBHOOK_SECRET,
    });
  } catch {
    return response.sendStatus(400);
  }
  if (MODE === "ack-first") {
    response.sendStatus(200);
    work(event).catch((error) => console.error(error.message));
    return;
  }
  try {
    await work(event);
    response.sendStatus(200);
  } catch (error) {
    console.error(error.message);
    response.sendStatus(500);
  }
});

app.get("/pending", (_, response) => response.json({ pending: underWay, failed }));

// Not the SDK's autoPagination: it rests 350 ms after each page, which would measure its rest and nothing else.
async function eachPage(list, filter, visit) {
  let after;
  do {
    const page = await list({ ...filter, limit: 100, after });
    for (const record of page.data) await visit(record);
    after = page.listMetadata.after;
  } while (after);
}

app.post("/sync", async (_, response) => {
  const users = (filter) => workos.directorySync.listUsers(filter);
  const groups = (filter) => workos.directorySync.listGroups(filter);
  const { data: directories } = await workos.directorySync.listDirectories({ limit: 100 });
  for (const { id: directory } of directories) {
    const ids = [];
    await eachPage(users, { directory }, (user) => upsertUser(user));
    await eachPage(groups, { directory }, (group) => {
      ids.push(group.id);
      return upsertGroup(group);
    });
    for (const group of ids) await eachPage(users, { group }, (user) => addMember(group, user.id));
  }
  response.sendStatus(200);
});

await createTables();
app.listen(Number(PORT), "127.0.0.1");
