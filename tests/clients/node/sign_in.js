// The public Node client, salesforce-pubsub-api-client, as its users write it: signs in, publishes an
// event and reads events from the oldest on, also by a managed subscription, which it commits.
//
// Reads one JSON object from standard input: `config`, which is the client's own, `topic`, `event`,
// `count` and, if there is one, the `managed` subscription. Writes one JSON object: what it read, or why it could not sign in.
// Its Avro library uses `underscore` and does not say so: package.json does.

"use strict";

const fs = require("node:fs");

const { default: PubSubApiClient } = require("salesforce-pubsub-api-client");

const SILENT = { debug() {}, info() {}, warn() {}, error: console.error };

async function main() {
  const { config, topic, event, count, managed } = JSON.parse(fs.readFileSync(0, "utf8"));
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
  let committed = null;
  try {
    committed = managed && (await readManaged(client, managed, count));
  } catch (error) {
    return { refusal: String(error.message) };
  }
  client.close();
  return { replay_id: replayId, events, committed };
}

// Reads so many events of a managed subscription, commits the last of them, and returns its replay id
// once that is answered.
function readManaged(client, name, count) {
  return new Promise((resolve, reject) => {
    let last = null;
    const callback = (subscription, kind, data) => {
      if (kind === "event") {
        last = data.replayId;
      } else if (kind === "lastEvent") {
        client.commitReplayId(subscription.subscriptionId, last);
      } else if (kind === "grpcKeepAlive") {
        // How this client tells of a response without events, which an answer is.
        resolve(last);
      } else if (kind === "error") {
        reject(data);
      }
    };
    client.subscribeWithManagedSubscription(name, callback, count).catch(reject);
  });
}

// Its connections outlive its `close()`.
main().then((result) => {
  const text = JSON.stringify(result, (_, value) => (typeof value === "bigint" ? Number(value) : value));
  process.stdout.write(`${text}\n`, () => process.exit(0));
});
