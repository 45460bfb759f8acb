// Validates fixtures/*.json, the story. The awkward ones are awkward on purpose.

import { readdirSync, readFileSync } from "node:fs";
import { eventErrors, eventTypes } from "./schemas.mjs";

const folder = process.argv[2];
let deviations = 0;
const seen = new Set();
for (const name of readdirSync(folder).filter((name) => name.endsWith(".json")).sort()) {
  const event = JSON.parse(readFileSync(`${folder}/${name}`, "utf8"));
  seen.add(event.event);
  const errors = eventErrors(event);
  if (errors === null) console.log(`fixtures/${name}: the document has no ${event.event}`);
  for (const error of errors ?? []) {
    console.log(`DEVIATION fixtures/${name}: ${error}`);
    deviations += 1;
  }
}
for (const type of eventTypes("dsync.").filter((type) => !seen.has(type))) {
  console.log(`DEVIATION fixtures: none of ${type}`);
  deviations += 1;
}
console.log(`fixtures: ${deviations} deviations`);
process.exitCode = deviations ? 1 : 0;
