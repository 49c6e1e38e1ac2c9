"""Keeps orders in a DynamoDB table whose name comes from the environment; whoever sends one may ask for a call back.

The call back is a hole on purpose: an event makes the function connect to any host (server-side request forgery).
"""

import os
import urllib.request

import boto3

table = boto3.resource("dynamodb").Table(os.environ["TABLE"])


def handler(event, context):
    if "amount" in event:
        table.put_item(Item={"id": event["id"], "amount": event["amount"]})
    item = table.get_item(Key={"id": event["id"]}).get("Item")
    if "call_back" in event:
        urllib.request.urlopen(event["call_back"], timeout=5).close()
    return {"id": event["id"], "amount": int(item["amount"]) if item else None}
