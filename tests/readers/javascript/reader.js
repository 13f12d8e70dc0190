// Reads requests.jsonl with the CloudEvents SDK for JavaScript and prints one JSON line for each event.
import { createInterface } from "node:readline";
import { HTTP } from "cloudevents";

const KNOWN = new Set(["id", "source", "type", "subject", "time", "datacontenttype", "specversion", "data",
  "datacontentencoding", "dataschema", "data_base64", "schemaurl"]);

function read(request) {
  // As node:http hands them out: names in lower case.
  const headers = Object.fromEntries(request.headers);
  const events = HTTP.toEvent({ headers, body: Buffer.from(request.body_base64, "base64").toString() });
  const all = Array.isArray(events) ? events : [events];
  all.forEach((event) => event.validate());
  return all;
}

function normalized(event) {
  const extensions = Object.fromEntries(Object.entries(event).filter(([name]) => !KNOWN.has(name)));
  const { id, source, type, subject, time, datacontenttype, data } = event;
  return { id, source, type, subject, time, datacontenttype, extensions, data: JSON.stringify(data) };
}

let number = 0;
// U+2028 ends a line for readline, but JSON text of requests.jsonl is ASCII.
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  const about = { combination: request.combination, request: number++ };
  try {
    for (const event of read(request)) {
      console.log(JSON.stringify({ ...about, ...normalized(event) }));
    }
  } catch (error) {
    // Whatever the SDK throws is what its users meet.
    const why = error.errors ? ` ${JSON.stringify(error.errors)}` : "";
    console.log(JSON.stringify({ ...about, error: `${error.name}: ${error.message}${why}` }));
  }
}
