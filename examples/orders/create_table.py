"""Creates the table TABLE at a local fake: create_table.py ENDPOINT."""

import os
import sys

import boto3

boto3.client("dynamodb", endpoint_url=sys.argv[1]).create_table(
    TableName=os.environ["TABLE"],
    KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    BillingMode="PAY_PER_REQUEST",
)
