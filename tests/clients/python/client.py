"""A stock client of the Pub/Sub API: grpcio, stubs made from proto/, Avro by fastavro.

Reads one JSON object from standard input: `connection` and what to do. Writes one JSON object a
line to standard output; bytes are hexadecimal. It knows nothing about Tidegate: what it prints is
what the libraries handed to it. The Node client beside it takes and prints the same.
"""

import io
import json
import queue
import sys

import fastavro
import grpc
import pubsub_api_pb2 as pb
import pubsub_api_pb2_grpc as pb_grpc

UNARY_TIMEOUT_S = 30


def emit(kind, **fields):
    print(json.dumps({"kind": kind, **fields}), flush=True)


def emit_status(call):
    trailers = {key: value for key, value in call.trailing_metadata() or ()}
    emit("status", code=call.code().value[0], details=call.details() or "", trailers=trailers)


class Client:
    def __init__(self, connection):
        endpoint = connection["endpoint"]
        if connection["ca_pem"]:
            with open(connection["ca_pem"], "rb") as file:
                credentials = grpc.ssl_channel_credentials(root_certificates=file.read())
            channel = grpc.secure_channel(endpoint, credentials)
        else:
            channel = grpc.insecure_channel(endpoint)
        self.stub = pb_grpc.PubSubStub(channel)
        self.metadata = [tuple(pair) for pair in connection["metadata"]]
        self.schemas = {}

    def unary(self, method, request):
        return getattr(self.stub, method)(
            request, metadata=self.metadata, timeout=UNARY_TIMEOUT_S
        )

    def schema(self, schema_id):
        if schema_id not in self.schemas:
            info = self.unary("GetSchema", pb.SchemaRequest(schema_id=schema_id))
            self.schemas[schema_id] = fastavro.parse_schema(json.loads(info.schema_json))
        return self.schemas[schema_id]

    def topic(self, config):
        info = self.unary("GetTopic", pb.TopicRequest(topic_name=config["topic"]))
        emit(
            "topic",
            topic_name=info.topic_name,
            tenant_guid=info.tenant_guid,
            can_publish=info.can_publish,
            can_subscribe=info.can_subscribe,
            schema_id=info.schema_id,
            rpc_id=info.rpc_id,
        )

    def schema_text(self, config):
        info = self.unary("GetSchema", pb.SchemaRequest(schema_id=config["schema_id"]))
        emit(
            "schema",
            schema_json=info.schema_json,
            schema_id=info.schema_id,
            rpc_id=info.rpc_id,
        )

    def batches(self, config):
        """The configured events as requests; records are written with the topic's schema."""
        topic = self.unary("GetTopic", pb.TopicRequest(topic_name=config["topic"]))
        events = []
        for event in config["events"]:
            if "record" in event:
                payload = io.BytesIO()
                schema = self.schema(topic.schema_id)
                fastavro.schemaless_writer(payload, schema, event["record"])
                payload, schema_id = payload.getvalue(), topic.schema_id
            else:
                payload, schema_id = bytes.fromhex(event["payload"]), event["schema_id"]
            events.append(pb.ProducerEvent(id=event["id"], schema_id=schema_id, payload=payload))
        size = config["batch"]
        for start in range(0, len(events), size):
            batch = events[start : start + size]
            yield pb.PublishRequest(topic_name=config["topic"], events=batch)

    def publish(self, config):
        for request in self.batches(config):
            self.emit_published(self.unary("Publish", request))

    def publish_stream(self, config):
        requests = list(self.batches(config))
        responses = self.stub.PublishStream(iter(requests), metadata=self.metadata)
        for response in responses:
            self.emit_published(response)
        emit_status(responses)

    def emit_published(self, response):
        results = [
            {
                "replay_id": result.replay_id.hex(),
                "error": (
                    {"code": pb.ErrorCode.Name(result.error.code), "msg": result.error.msg}
                    if result.HasField("error")
                    else None
                ),
                "correlation_key": result.correlation_key,
            }
            for result in response.results
        ]
        emit("published", results=results, schema_id=response.schema_id, rpc_id=response.rpc_id)

    def subscribe(self, config):
        """Sends its first request only when the response headers are here."""
        requests = queue.SimpleQueue()
        call = self.stub.Subscribe(iter(requests.get, None), metadata=self.metadata)
        try:
            self.read_events(config, requests, call)
        finally:
            requests.put(None)

    def read_events(self, config, requests, call):
        call.initial_metadata()
        emit("headers")
        for number, credit in enumerate(config["grants"]):
            request = pb.FetchRequest(topic_name=config["topic"], num_requested=credit)
            if number == 0:
                request.replay_preset = pb.ReplayPreset.Value(config["preset"])
                request.replay_id = bytes.fromhex(config["replay_id"])
            requests.put(request)
        if config["half_close"]:
            requests.put(None)
        received = 0
        for response in call:
            received += len(response.events)
            self.emit_response(response)
            if received >= config["count"] and not config["half_close"]:
                call.cancel()
                return
            if config["refill"] and response.events and response.pending_num_requested == 0:
                requests.put(pb.FetchRequest(num_requested=config["refill"]))
        emit_status(call)

    def managed(self, config):
        """Commits the latest replay id of every response that answers no commit, in requests that do
        not name the subscription again; half-closes once the last event is committed."""
        requests = queue.SimpleQueue()
        requests.put(
            pb.ManagedFetchRequest(
                subscription_id=config["subscription_id"],
                developer_name=config["developer_name"],
                num_requested=config["credit"],
            )
        )
        call = self.stub.ManagedSubscribe(iter(requests.get, None), metadata=self.metadata)
        received = sent = 0
        try:
            for response in call:
                if response.HasField("commit_response"):
                    commit = response.commit_response
                    self.emit_commit(commit)
                    if received >= config["count"] and commit.commit_request_id == str(sent):
                        requests.put(None)
                if response.events or not response.HasField("commit_response"):
                    received += len(response.events)
                    self.emit_response(response)
                    sent += 1
                    wants_more = received < config["count"] and not response.pending_num_requested
                    requests.put(
                        pb.ManagedFetchRequest(
                            num_requested=config["credit"] if wants_more else 0,
                            commit_replay_id_request=pb.CommitReplayRequest(
                                commit_request_id=str(sent), replay_id=response.latest_replay_id
                            ),
                        )
                    )
            emit_status(call)
        finally:
            requests.put(None)

    def emit_commit(self, commit):
        error = None
        if commit.HasField("error"):
            error = {"code": pb.ErrorCode.Name(commit.error.code), "msg": commit.error.msg}
        emit(
            "commit",
            commit_request_id=commit.commit_request_id,
            replay_id=commit.replay_id.hex(),
            error=error,
            process_time=commit.process_time,
        )

    def emit_response(self, response):
        emit(
            "response",
            events=[self.event(consumer_event) for consumer_event in response.events],
            latest_replay_id=response.latest_replay_id.hex(),
            pending=response.pending_num_requested,
            rpc_id=response.rpc_id,
        )

    def event(self, consumer_event):
        event = consumer_event.event
        schema = self.schema(event.schema_id)
        record = fastavro.schemaless_reader(io.BytesIO(event.payload), schema, None)
        return {
            "id": event.id,
            "schema_id": event.schema_id,
            "payload": event.payload.hex(),
            "replay_id": consumer_event.replay_id.hex(),
            # An integer that other languages cannot hold is text.
            "record": {
                key: str(value) if type(value) is int and abs(value) >= 2**53 else value
                for key, value in record.items()
            },
        }


def main():
    config = json.load(sys.stdin)
    client = Client(config["connection"])
    try:
        getattr(client, config["command"])(config)
    except grpc.RpcError as call:
        emit_status(call)


main()
