// The public Node client, salesforce-pubsub-api-client, as its users write it: signs in, publishes an
// event and reads events from the oldest on.
//
// Reads one JSON object from standard input: `config`, which is the client's own, `topic`, `event` and
// `count`. Writes one JSON object: what it read, or why it could not sign in.
// Its Avro library uses `underscore` and does not say so: package.json does.

"use strict";

const fs = require("node:fs");

const { default: PubSubApiClient } = require("salesforce-pubsub-api-client");

const SILENT = { debug() {}, info() {}, warn() {}, error: console.error };

async function main() {
  const { config, topic, event, count } = JSON.parse(fs.readFileSync(0, "utf8"));
  const client = new PubSubApiClient(config, SILENT);
  try {
    await client.connect();
  } catch (error) {
    return { refusal: String(error.cause?.message ?? error.message) };
  }
  const { replayId } = await client.publish(topic, event);
  const events = await new Promise((resolve, reject) => {
    const events = [];
    client.subscribeFromEarliestEvent(
      topic,
      (_subscription, kind, data) => {
        if (kind === "event") {
          events.push({ replay_id: data.replayId, payload: data.payload });
          if (events.length === count) {
            resolve(events);
          }
        } else if (kind === "error") {
          reject(data);
        }
      },
      count,
    );
  });
  client.close();
  return { replay_id: replayId, events };
}

// Its connections outlive its `close()`.
main().then((result) => {
  const text = JSON.stringify(result, (_, value) => (typeof value === "bigint" ? Number(value) : value));
  process.stdout.write(`${text}\n`, () => process.exit(0));
});
