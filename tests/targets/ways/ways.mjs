// Ways of Node code to make a process, connect, write and load code: `ways.mjs FOLDER PORT`, like ways.py.
import { exec, execFileSync, fork, spawn, spawnSync } from 'node:child_process';
import dgram from 'node:dgram';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { promisify } from 'node:util';

const [folder, port] = process.argv.slice(2);
const closed = `${folder}/closed`;
const touch = '/usr/bin/touch';

const heard = (emitter, good) => new Promise((resolve, reject) => {
  emitter.on(good, resolve);
  emitter.on('error', reject);
});
const ended = ({ error, status }) => {
  if (error) throw error;
  if (status) throw new Error(`status ${status}`);
};

const WAYS = {
  'child_process.spawnSync': (name) => ended(spawnSync(touch, [`${closed}/${name}`])),
  'child_process.execFileSync': (name) => execFileSync(touch, [`${closed}/${name}`]),
  'child_process.spawn': (name) => heard(spawn(touch, [`${closed}/${name}`]), 'exit'),
  'child_process.exec': (name) => promisify(exec)(`${touch} ${closed}/${name}`),
  'child_process.fork': (name) => heard(fork('/dev/null', [name]), 'exit'),
  'net.connect': async () => {
    const socket = net.connect(port, '127.0.0.1');
    await heard(socket, 'connect');
    socket.destroy();
  },
  'http.get': async () => {
    const request = http.get({ host: '127.0.0.1', port });
    request.on('socket', (socket) => socket.on('connect', () => request.emit('connected')));
    await heard(request, 'connected');
    request.on('error', () => {});
    request.destroy();
  },
  'dgram.send': async () => {
    const socket = dgram.createSocket('udp4');
    try {
      await promisify(socket.send.bind(socket))('x', port, '127.0.0.1');
    } finally {
      socket.close();
    }
  },
  'fs.writeFileSync': (name) => fs.writeFileSync(`${closed}/${name}`, 'x'),
  'fs.promises.writeFile': (name) => fs.promises.writeFile(`${closed}/${name}`, 'x'),
  'fs.mkdirSync': (name) => fs.mkdirSync(`${closed}/${name}`),
  'fs.renameSync': (name) => {
    fs.writeFileSync(`${folder}/open/${name}`, 'x');
    fs.renameSync(`${folder}/open/${name}`, `${closed}/${name}`);
  },
};

const found = {};
let number = 0;
for (const [said, way] of Object.entries(WAYS)) {
  try {
    await way(`node-${number++}`);
    found[said] = 'happened';
  } catch (error) {
    found[said] = `${error.code ?? error.message}`;
  }
}
console.log(JSON.stringify(found));
process.exit(0);
