// The function of tests/clients/test_interpreters.py for Node, under examples/node-runtime.
import { spawn } from 'node:child_process';
import { createHash, pbkdf2 } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import net from 'node:net';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';

const told = (error) => (error ? String(Math.abs(error.errno) || error.message) : 'ok');
const empty = new WebAssembly.Module(Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0));

async function work(rounds) {
  let kept = [];
  const hash = (number) => createHash('sha256').update(`${number}`.repeat(2000)).digest();
  for (let i = 0; i < rounds * 200; i++) kept = [...kept.slice(-50), hash(i)];
  new WebAssembly.Instance(empty);
  await Promise.all([1, 2, 3, 4, 5].map(() => promisify(pbkdf2)('secret', 'salt', 2000 * rounds, 32, 'sha256')));
  const worker = new Worker('for (let i = 0; i < 1e6; i++);', { eval: true });
  await new Promise((resolve, reject) => worker.on('exit', resolve).on('error', reject));
  return 'ok';
}

async function started(program) {
  const child = spawn(program, { stdio: 'ignore' }); // throws where it is refused, and reports where it is missing
  return new Promise((resolve) => child.on('error', (error) => resolve(told(error))).on('exit', () => resolve('ok')));
}

function connected(host, port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, host);
    socket.on('data', () => socket.destroy() && resolve('ok'));
    socket.on('error', (error) => resolve(told(error.errors?.[0] ?? error)));
  });
}

export async function handler(event) {
  const answer = {};
  if (event.work) answer.work = await work(event.work);
  if (event.file) answer.file = await writeFile(event.file, 'text').then(() => 'ok', told);
  if (event.program) answer.program = await started(event.program).catch(told);
  if (event.host) answer.connect = await connected(event.host, event.port);
  return answer;
}
