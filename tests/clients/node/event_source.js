// The public client for Server-Sent Events, eventsource, as its users write it: reads orders as they
// come, and comes back by itself when its connection is lost.
//
// The first line of standard input is a JSON object: `url`, `token` and `count`. Before it connects
// again the client waits for another line: where the gateway is by then. Writes a line when it is connected for the first time and
// knows its position, then the id of each event; ends after `count` events.

"use strict";

const readline = require("node:readline");

const { EventSource } = require("eventsource");

async function main() {
  const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const { url, token, count } = JSON.parse((await lines.next()).value);
  let address = url;
  const source = new EventSource(url, {
    fetch: async (_url, init) => {
      address ??= (await lines.next()).value;
      const response = await fetch(address, {
        ...init,
        headers: { ...init.headers, Authorization: `Bearer ${token}` },
      });
      address = null;
      return response;
    },
  });
  source.addEventListener("position", () => console.log("connected"), { once: true });
  let left = count;
  source.onmessage = ({ data }) => {
    console.log(JSON.parse(data).event_id);
    left -= 1;
    if (left === 0) {
      source.close();
      process.exit(0);
    }
  };
}

main();
