// A custom Lambda runtime for Node: loads the argument's (or _HANDLER's) file.export, then one loop over one connection.
import http from 'node:http';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

function ask(method, call, headers = {}) {
  const request = http.request({ host, port, method, agent, headers, path: `/2018-06-01/runtime/${call}` });
  const answered = new Promise((resolve, reject) => {
    request.on('error', reject);
    request.on('response', async (response) => {
      const parts = [];
      for await (const part of response) parts.push(part);
      resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(parts).toString() });
    });
  });
  return { request, answered };
}

// A kept-alive connection that the server has closed meanwhile answers with a reset: then once more, over a new one.
async function send(method, call, headers, body) {
  for (let attempt = 0; ; attempt++) {
    const { request, answered } = ask(method, call, headers);
    request.end(body);
    try {
      return await answered;
    } catch (error) {
      if (!request.reusedSocket || attempt) throw error;
    }
  }
}

function described(error) {
  const stackTrace = String(error?.stack ?? '').split('\n').slice(1).map((line) => line.trim());
  return JSON.stringify({ errorMessage: String(error?.message ?? error), errorType: error?.name ?? 'Error', stackTrace });
}

async function report(call, error, category) {
  const headers = { 'Content-Type': 'application/json', 'Lambda-Runtime-Function-Error-Type': category };
  await send('POST', call, headers, described(error));
}

// What an async generator yields goes out piece by piece; an error after the first piece can only be a trailer.
async function stream(call, pieces) {
  const iterator = pieces[Symbol.asyncIterator]();
  let step = await iterator.next(); // an error before the first piece is an ordinary one
  const { request, answered } = ask('POST', call, {
    'Content-Type': 'application/octet-stream',
    'Lambda-Runtime-Function-Response-Mode': 'streaming',
    'Transfer-Encoding': 'chunked',
    Trailer: 'Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body',
  });
  try {
    for (; !step.done; step = await iterator.next()) request.write(step.value);
  } catch (error) {
    request.addTrailers({
      'Lambda-Runtime-Function-Error-Type': 'Function.StreamBroken',
      'Lambda-Runtime-Function-Error-Body': Buffer.from(described(error)).toString('base64'),
    });
  }
  request.end();
  await answered;
}

async function load() {
  const name = process.argv[2] ?? process.env._HANDLER;
  const dot = name.lastIndexOf('.');
  const file = path.resolve(process.env.LAMBDA_TASK_ROOT ?? '.', `${name.slice(0, dot)}.mjs`);
  const found = (await import(pathToFileURL(file)))[name.slice(dot + 1)];
  if (typeof found !== 'function') throw new TypeError(`${name} is no function`);
  return found;
}

let handler;
try {
  handler = await load();
} catch (error) {
  await report('init/error', error, 'Runtime.HandlerNotLoaded');
  process.exit(1);
}
for (;;) {
  const event = await send('GET', 'invocation/next');
  if (event.status !== 200) process.exit(1);
  const id = event.headers['lambda-runtime-aws-request-id'];
  try {
    const result = await handler(JSON.parse(event.body), { awsRequestId: id });
    if (result?.[Symbol.asyncIterator]) await stream(`invocation/${id}/response`, result);
    else {
      const headers = { 'Content-Type': 'application/json' };
      await send('POST', `invocation/${id}/response`, headers, JSON.stringify(result ?? null));
    }
  } catch (error) {
    await report(`invocation/${id}/error`, error, 'Function.HandlerFailed');
  }
}
