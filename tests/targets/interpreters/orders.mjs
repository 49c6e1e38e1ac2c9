// examples/orders for Node with AWS's client, under examples/node-runtime.
import net from 'node:net';
import { DynamoDBClient, GetItemCommand, PutItemCommand } from '@aws-sdk/client-dynamodb';

const client = new DynamoDBClient({});
const TableName = process.env.TABLE;

function calledBack(host, port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, host, () => socket.destroy() && resolve('connected'));
    socket.on('error', (error) => resolve(error.code));
  });
}

export async function handler({ id, amount, host, port }) {
  if (host) return { id, attack: await calledBack(host, port) };
  if (amount) await client.send(new PutItemCommand({ TableName, Item: { id: { S: id }, amount: { N: String(amount) } } }));
  const { Item } = await client.send(new GetItemCommand({ TableName, Key: { id: { S: id } } }));
  return { id, amount: Item ? Number(Item.amount.N) : null };
}
