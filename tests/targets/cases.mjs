// A Node handler for every case of tests/e2e/test_runtimes.py, attacks included.
import { spawnSync } from 'node:child_process';
import net from 'node:net';

let events = 0;
if (process.env.BREAK_INIT) throw new Error('this handler cannot begin');
process.on('SIGTERM', () => {
  process.stdout.write('the handler saw SIGTERM\n', () => process.exit(0));
});

async function* pieces(event) {
  for (let number = 0; number < event.stream; number++) yield `piece ${number}\n`;
  if (event.breaks) throw new Error('the stream broke');
}

function connected(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.on('connect', () => socket.destroy() && resolve('connected'));
    socket.on('error', (error) => resolve(error.code));
  });
}

export async function handler(event) {
  events++;
  if (event.raise) throw new RangeError(event.raise);
  if (event.exit) process.exit(event.exit);
  if (event.stream) return pieces(event);
  if (event.sleep) await new Promise((resolve) => setTimeout(resolve, event.sleep * 1000));
  let attack = '';
  if (event.spawn) attack = spawnSync('/usr/bin/touch', [event.spawn]).error?.code ?? 'spawned';
  if (event.connect) attack = await connected(event.connect);
  return { pid: process.pid, parent: process.ppid, events, attack };
}
