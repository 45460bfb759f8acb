// WorkOS's OpenAPI document as validators.

import { readFileSync } from "node:fs";
import Ajv2020 from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { parse } from "yaml";

// By its place on disk, since the package exports its types alone.
const file = new URL("./node_modules/@workos/openapi-spec/open-api-spec.yaml", import.meta.url);
const document = parse(readFileSync(file, "utf8"));

// OpenAPI 3.1 schemas are JSON Schema 2020-12; its extra words (`example`, `discriminator`) only annotate.
const ajv = new Ajv2020({ strict: false, allErrors: true });
addFormats(ajv);
ajv.addSchema({ $id: "openapi", ...document });

const compiled = new Map();
function at(pointer) {
  if (!compiled.has(pointer)) compiled.set(pointer, ajv.compile({ $ref: `openapi#${pointer}` }));
  return compiled.get(pointer);
}

const escape = (part) => encodeURIComponent(String(part).replaceAll("~", "~0").replaceAll("/", "~1"));
const pointer = (...parts) => parts.map((part) => `/${escape(part)}`).join("");

const kinds = document.components.schemas.EventSchema.allOf[1].oneOf;
const branches = new Map(kinds.map((kind, index) => [kind.properties.event.const, index]));

/** The event types that the document describes and whose names start so. */
export const eventTypes = (prefix) => [...branches.keys()].filter((type) => type.startsWith(prefix));

/** What is wrong with an event: a list of sentences, or `null` if the document does not know its type. */
export function eventErrors(event) {
  const index = branches.get(event?.event);
  if (index === undefined) return null;
  // The branch alone: the errors of 100 other branches would hide the one that matters.
  const own = at(pointer("components", "schemas", "EventSchema", "allOf", 1, "oneOf", index));
  const common = at(pointer("components", "schemas", "EventSchema", "allOf", 0));
  return [...errorsOf(common, event), ...errorsOf(own, event)];
}

/** What is wrong with an answer to `method` `path` (as the document writes it) with this status. */
export function answerErrors(method, path, status, body) {
  const responses = document.paths[path]?.[method]?.responses;
  if (!responses) return [`the document has no ${method.toUpperCase()} ${path}`];
  const response = responses[status];
  if (!response) return [`the document has no status ${status} here, only ${Object.keys(responses).join(", ")}`];
  const schema = response.content?.["application/json"]?.schema;
  if (!schema) return body === undefined ? [] : ["the document has no body here"];
  if (schema.$ref === "#/components/schemas/EventList") return eventListErrors(body);
  return errorsOf(at(pointer("paths", path, method, "responses", status, "content", "application/json", "schema")), body);
}

function eventListErrors(body) {
  const errors = errorsOf(at(pointer("components", "schemas", "EventList")), { ...body, data: [] });
  (body?.data ?? []).forEach((event, index) => {
    const found = eventErrors(event) ?? [];
    errors.push(...found.map((error) => `/data/${index} (${event.event}): ${error}`));
  });
  return errors;
}

function errorsOf(validate, value) {
  if (validate(value)) return [];
  return validate.errors.map(({ instancePath, message, params }) => {
    const detail = Object.keys(params).length ? ` ${JSON.stringify(params)}` : "";
    return `${instancePath || "/"} ${message}${detail}`;
  });
}
