// Redis over one `cloudflare:sockets` connection: sends several commands in one write and reads their replies.

import { connect } from 'cloudflare:sockets';

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const CR = 13;

export class Connection {
  constructor(env) {
    const address = { hostname: env.REDIS_HOST, port: Number(env.REDIS_PORT) };
    this.socket = connect(address, { secureTransport: env.REDIS_TLS });
    this.writer = this.socket.writable.getWriter();
    this.reader = this.socket.readable.getReader();
    this.buffer = new Uint8Array(0);
    this.at = 0;
  }

  // Replies in the order of the commands: strings, numbers, null, arrays of these.
  async send(commands) {
    let text = '';
    for (const words of commands) {
      text += `*${words.length}\r\n`;
      // Words are ASCII, so their length in bytes equals their length in characters.
      for (const word of words) text += `$${word.length}\r\n${word}\r\n`;
    }
    // A failed write shows as a missing reply.
    this.writer.write(encoder.encode(text)).catch(() => {});
    const replies = [];
    while (replies.length < commands.length) {
      const start = this.at;
      const reply = this.reply();
      if (reply === undefined) {
        this.at = start;
        await this.more();
      } else {
        replies.push(reply);
      }
    }
    return replies;
  }

  close() {
    this.socket.close().catch(() => {});
  }

  // The next reply, or undefined if it is incomplete.
  reply() {
    const end = this.buffer.indexOf(CR, this.at);
    if (end < 0 || end + 1 >= this.buffer.length) return undefined;
    const kind = this.buffer[this.at];
    const rest = decoder.decode(this.buffer.subarray(this.at + 1, end));
    this.at = end + 2;
    switch (String.fromCharCode(kind)) {
      case '+':
        return rest;
      case ':':
        return Number(rest);
      case '-':
        throw new Error(rest);
      case '$':
        return rest === '-1' ? null : this.bulk(Number(rest));
      case '*': {
        const items = [];
        for (let count = Number(rest); count > 0; count--) {
          const item = this.reply();
          if (item === undefined) return undefined;
          items.push(item);
        }
        return items;
      }
      default:
        throw new Error('Redis sent what is no reply');
    }
  }

  bulk(length) {
    if (this.buffer.length < this.at + length + 2) return undefined;
    const text = decoder.decode(this.buffer.subarray(this.at, this.at + length));
    this.at += length + 2;
    return text;
  }

  async more() {
    const { value, done } = await this.reader.read();
    if (done) throw new Error('Redis closed the connection');
    const left = this.buffer.subarray(this.at);
    this.at = 0;
    if (left.length === 0) {
      this.buffer = value;
      return;
    }
    this.buffer = new Uint8Array(left.length + value.length);
    this.buffer.set(left);
    this.buffer.set(value, left.length);
  }
}
