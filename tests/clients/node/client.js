// A stock client of the Pub/Sub API: @grpc/grpc-js, messages read from proto/, Avro by avsc.
//
// Reads one JSON object from standard input: `connection` and what to do. Writes one JSON object a
// line to standard output; bytes are hexadecimal. It knows nothing about Tidegate: what it prints
// is what the libraries handed to it. The Python client beside it takes and prints the same.

"use strict";

const fs = require("node:fs");
const path = require("node:path");
const avro = require("avsc");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const UNARY_TIMEOUT_MS = 30_000;
const PROTO = path.join(__dirname, "../../../proto/pubsub_api.proto");

// A 64-bit integer that a number cannot hold is text.
const LONG = avro.types.LongType.__with({
  fromBuffer: (buffer) => fromBigInt(buffer.readBigInt64LE()),
  toBuffer: (value) => {
    const buffer = Buffer.alloc(8);
    buffer.writeBigInt64LE(BigInt(value));
    return buffer;
  },
  fromJSON: fromBigInt,
  toJSON: String,
  isValid: (value) => Number.isSafeInteger(value) || typeof value === "string",
  compare: (a, b) => Math.sign(Number(BigInt(a) - BigInt(b))),
});

function fromBigInt(value) {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : String(value);
}

function emit(kind, fields) {
  process.stdout.write(JSON.stringify({ kind, ...fields }) + "\n");
}

function emitStatus({ code, details, metadata }) {
  emit("status", { code, details, trailers: metadata ? metadata.getMap() : {} });
}

class Client {
  constructor(connection) {
    const definition = protoLoader.loadSync(PROTO, { keepCase: true, enums: String });
    const { PubSub } = grpc.loadPackageDefinition(definition).eventbus.v1;
    const credentials = connection.ca_pem
      ? grpc.credentials.createSsl(fs.readFileSync(connection.ca_pem))
      : grpc.credentials.createInsecure();
    this.stub = new PubSub(connection.endpoint, credentials);
    this.metadata = new grpc.Metadata();
    for (const [key, value] of connection.metadata) {
      this.metadata.add(key, value);
    }
    this.schemas = new Map();
  }

  unary(method, request) {
    const options = { deadline: Date.now() + UNARY_TIMEOUT_MS };
    return new Promise((resolve, reject) => {
      this.stub[method](request, this.metadata, options, (error, response) =>
        error ? reject(error) : resolve(response),
      );
    });
  }

  async schema(schemaId) {
    if (!this.schemas.has(schemaId)) {
      const info = await this.unary("GetSchema", { schema_id: schemaId });
      const schema = JSON.parse(info.schema_json);
      this.schemas.set(schemaId, avro.Type.forSchema(schema, { registry: { long: LONG } }));
    }
    return this.schemas.get(schemaId);
  }

  async topic(config) {
    const info = await this.unary("GetTopic", { topic_name: config.topic });
    const { topic_name, tenant_guid, can_publish, can_subscribe, schema_id, rpc_id } = info;
    emit("topic", {
      topic_name,
      tenant_guid,
      can_publish: Boolean(can_publish),
      can_subscribe: Boolean(can_subscribe),
      schema_id,
      rpc_id,
    });
  }

  async schema_text(config) {
    const info = await this.unary("GetSchema", { schema_id: config.schema_id });
    const { schema_json, schema_id, rpc_id } = info;
    emit("schema", { schema_json, schema_id, rpc_id });
  }

  // The configured events as requests; records are written with the topic's schema.
  async batches(config) {
    const topic = await this.unary("GetTopic", { topic_name: config.topic });
    const type = await this.schema(topic.schema_id);
    const events = config.events.map((event) =>
      event.record
        ? { id: event.id, schema_id: topic.schema_id, payload: type.toBuffer(event.record) }
        : { ...event, payload: Buffer.from(event.payload, "hex") },
    );
    const requests = [];
    for (let start = 0; start < events.length; start += config.batch) {
      const batch = events.slice(start, start + config.batch);
      requests.push({ topic_name: config.topic, events: batch });
    }
    return requests;
  }

  async publish(config) {
    for (const request of await this.batches(config)) {
      emitPublished(await this.unary("Publish", request));
    }
  }

  async publish_stream(config) {
    const requests = await this.batches(config);
    const call = this.stub.PublishStream(this.metadata);
    const ended = endOf(call);
    call.on("data", emitPublished);
    for (const request of requests) {
      call.write(request);
    }
    call.end();
    emitStatus(await ended);
  }

  // Sends its first request only when the response headers are here.
  async subscribe(config) {
    const call = this.stub.Subscribe(this.metadata);
    const ended = endOf(call);
    call.on("metadata", () => {
      emit("headers", {});
      config.grants.forEach((credit, number) => {
        const first = { replay_preset: config.preset, replay_id: Buffer.from(config.replay_id, "hex") };
        const request = { topic_name: config.topic, num_requested: credit };
        call.write(number === 0 ? { ...request, ...first } : request);
      });
      if (config.half_close) {
        call.end();
      }
    });
    // Events are decoded one response after the other, though schemas are fetched in between.
    let handled = Promise.resolve();
    let received = 0;
    call.on("data", (response) => {
      const events = response.events ?? [];
      const pending = response.pending_num_requested ?? 0;
      received += events.length;
      const isEnough = received >= config.count && !config.half_close;
      if (!isEnough && config.refill && events.length > 0 && pending === 0) {
        call.write({ num_requested: config.refill });
      }
      handled = handled.then(async () => {
        emit("response", {
          events: await Promise.all(events.map((event) => this.event(event))),
          latest_replay_id: response.latest_replay_id.toString("hex"),
          pending,
          rpc_id: response.rpc_id,
        });
        if (isEnough) {
          call.cancel();
        }
      });
    });
    const status = await ended;
    await handled;
    if (status.code !== grpc.status.CANCELLED) {
      emitStatus(status);
    }
  }

  // Commits the latest replay id of every response that answers no commit. Every request names the
  // subscription again, and those that commit ask for no events.
  async managed(config) {
    const call = this.stub.ManagedSubscribe(this.metadata);
    const ended = endOf(call);
    const { subscription_id, developer_name } = config;
    const named = { subscription_id, developer_name };
    const write = (request) => call.write({ ...named, ...request });
    write({ num_requested: config.credit });
    let handled = Promise.resolve();
    let received = 0;
    let sent = 0;
    call.on("data", (response) => {
      const { commit_response } = response;
      const events = response.events ?? [];
      const pending = response.pending_num_requested ?? 0;
      if (commit_response) {
        const { commit_request_id, replay_id, error, process_time } = commit_response;
        const answer = { commit_request_id, error: error ?? null, process_time: Number(process_time) };
        handled = handled.then(() => emit("commit", { ...answer, replay_id: replay_id.toString("hex") }));
        if (received >= config.count && commit_request_id === String(sent)) {
          call.end();
        }
        if (events.length === 0) {
          return;
        }
      }
      received += events.length;
      handled = handled.then(async () => {
        emit("response", {
          events: await Promise.all(events.map((event) => this.event(event))),
          latest_replay_id: response.latest_replay_id.toString("hex"),
          pending,
          rpc_id: response.rpc_id,
        });
      });
      sent += 1;
      const commit = { commit_request_id: String(sent), replay_id: response.latest_replay_id };
      write({ num_requested: 0, commit_replay_id_request: commit });
      if (pending === 0 && received < config.count) {
        write({ num_requested: config.credit });
      }
    });
    const status = await ended;
    await handled;
    emitStatus(status);
  }

  async event({ event, replay_id }) {
    const type = await this.schema(event.schema_id);
    return {
      id: event.id,
      schema_id: event.schema_id,
      payload: event.payload.toString("hex"),
      replay_id: replay_id.toString("hex"),
      record: type.fromBuffer(event.payload),
    };
  }
}

// The status a streaming call ends with.
function endOf(call) {
  // Without a listener an error would end the process; the status says the same.
  call.on("error", () => {});
  return new Promise((resolve) => call.on("status", resolve));
}

function emitPublished({ results, schema_id, rpc_id }) {
  emit("published", {
    results: (results ?? []).map((result) => ({
      replay_id: (result.replay_id ?? Buffer.alloc(0)).toString("hex"),
      error: result.error ?? null,
      correlation_key: result.correlation_key ?? "",
    })),
    schema_id,
    rpc_id,
  });
}

async function main() {
  const config = JSON.parse(fs.readFileSync(0, "utf8"));
  const client = new Client(config.connection);
  try {
    await client[config.command](config);
  } catch (error) {
    if (error.metadata === undefined) {
      throw error;
    }
    emitStatus(error);
  }
  client.stub.close();
}

main();
