"""Public Python clients, as their users write them: they sign in, and one reads events.

Reads one JSON object from standard input: `client` and what it is given. Writes one JSON object: what
came of it, or why it could not sign in. The authority that they trust is named by the environment,
and for gRPC in place of the bundle that one of them always reads; that is all that is done to them.
"""

import asyncio
import json
import sys

import certifi
import requests
from requests.adapters import HTTPAdapter
from simple_salesforce.exceptions import SalesforceAuthenticationFailed
from simple_salesforce.login import SalesforceLogin


def aiosfpubsub(config):
    """The asyncio client of the Pub/Sub API, which signs in by SOAP."""
    certifi.where = lambda: config["ca_pem"]
    from aiosfpubsub.client import Client

    host, port = config["grpc"].rsplit(":", 1)
    client = Client(config["login"], config["username"], config["password"], "localhost", int(port))
    try:
        client.auth()
    except AttributeError:
        # It looks for the session and finds a fault.
        return {"refusal": "fault"}
    events = []

    def handle(response, client):
        for consumer_event in response.events:
            event = consumer_event.event
            schema = client.get_schema_json(event.schema_id)
            events.append(client.decode(schema, event.payload))
        if len(events) >= config["count"]:
            raise asyncio.CancelledError

    async def read():
        try:
            await client.subscribe(config["topic"], "EARLIEST", b"", 100, handle)
        except asyncio.CancelledError:
            pass

    topic = client.get_topic(config["topic"])
    asyncio.run(read())
    return {"can_subscribe": topic.can_subscribe, "tenant": client.tenant_id, "events": events}


class ToGateway(HTTPAdapter):
    """Sends what is for the hosted login host to a gateway, as a DNS entry would."""

    def __init__(self, login):
        self.login = login
        super().__init__()

    def send(self, request, **options):
        path = request.url.split(".salesforce.com", 1)[1]
        request.url = self.login + path
        return super().send(request, **options)


def simple_salesforce(config):
    """The client of the other interfaces, of whose sign-ins each is tried."""
    session = requests.Session()
    session.mount("https://login.salesforce.com", ToGateway(config["login"]))
    session.mount("https://shop.salesforce.com", ToGateway(config["login"]))
    try:
        token, instance = SalesforceLogin(session=session, **config["arguments"])
    except SalesforceAuthenticationFailed as error:
        return {"refusal": str(error)}
    return {"token": token, "instance": instance}


def main():
    config = json.load(sys.stdin)
    clients = {"aiosfpubsub": aiosfpubsub, "simple_salesforce": simple_salesforce}
    print(json.dumps(clients[config["client"]](config)))


main()
