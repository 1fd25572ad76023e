// A CSMS and any number of charging stations that validate every message strictly, in both directions.
//
// What to do comes as one JSON object a line on stdin, what happened goes as one JSON object a line to stdout:
//   {"do": "listen", "id": 1, "port": 0}        a CSMS; answered by {"of": 1, "result": {"port": ...}}
//   {"do": "connect", "id": 2, "who": "S1", "url": "ws://...", "version": "ocpp1.6", "password": ...}   a station
//   {"do": "call", "id": 3, "who": "S1", "action": "Heartbeat", "payload": {}}   answered by "result", or "error": [code, text]
//   {"do": "answer", "of": "m7", "payload": {}}                      to {"saw": "call", "id": "m7", "who", "action", "payload"}
//   {"do": "close", "id": 4, "who": "S1"}                            a station, or with {"who": null} the CSMS
// Besides answers it tells {"saw": "open" | "closed", "who"}, and every fault it finds:
//   {"saw": "fault", "who", "action", "ours": whether this side made the message, "problem", "message"}
"use strict";

const readline = require("readline");
const { RPCServer, RPCClient, createValidator, createRPCError } = require("ocpp-rpc");

console.warn = () => {}; // the library's validator complains of how the standard's 2.1 schemas are written

const VERSIONS = ["ocpp2.1", "ocpp2.0.1", "ocpp1.6"];
// The library looks schemas up by "urn:Action.req", and names those of 2.1 "urn:ActionRequest".
const schemas21 = require("ocpp-rpc/lib/schemas/ocpp2_1.json").map((schema) => ({
  ...schema,
  $id: schema.$id.replace(/Request$/, ".req").replace(/Response$/, ".conf"),
}));
const STRICT = { strictMode: true, strictModeValidators: [createValidator("ocpp2.1", schemas21)], pingIntervalMs: 0 };

const clients = new Map();
const unanswered = new Map();
let server = null;
let count = 0;

const tell = (message) => process.stdout.write(JSON.stringify(message) + "\n");

function attend(client, who) {
  clients.set(who, client);
  client.on("strictValidationFailure", ({ method, params, result, error, outbound, isCall }) => {
    const message = isCall ? params : result;
    tell({ saw: "fault", who, action: method, ours: outbound, answer: !isCall, problem: error.message, message });
  });
  client.on("badMessage", ({ buffer, error }) => {
    tell({ saw: "fault", who, action: "", ours: false, problem: error.message, message: buffer.toString("utf8") });
  });
  client.on("close", () => {
    if (clients.get(who) === client) clients.delete(who);
    tell({ saw: "closed", who });
  });
  client.handle(({ method, params }) => {
    const id = `m${++count}`;
    tell({ saw: "call", id, who, action: method, payload: params });
    return new Promise((resolve) => unanswered.set(id, resolve));
  });
}

async function listen({ port }) {
  server = new RPCServer({ protocols: VERSIONS, ...STRICT });
  server.on("client", (client) => {
    attend(client, client.identity);
    tell({ saw: "open", who: client.identity, version: client.protocol });
  });
  const http = await server.listen(port, "127.0.0.1");
  return { port: http.address().port };
}

async function connect({ who, url, version, password }) {
  const client = new RPCClient({ endpoint: url, identity: who, protocols: [version], password, reconnect: false, ...STRICT });
  attend(client, who);
  await client.connect();
  return {};
}

async function close({ who }) {
  if (who !== null) {
    await clients.get(who)?.close();
  } else {
    const old = server;
    server = null;
    await old.close({ force: true });
  }
  return {};
}

async function obey(command) {
  switch (command.do) {
    case "listen":
      return listen(command);
    case "connect":
      return connect(command);
    case "close":
      return close(command);
    case "call": {
      const client = clients.get(command.who);
      if (!client) throw createRPCError("GenericError", `${command.who} is not connected`);
      return client.call(command.action, command.payload);
    }
    default:
      throw Error(`cannot ${command.do}`);
  }
}

readline
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const command = JSON.parse(line);
    if (command.do === "answer") {
      const { of, payload, error } = command;
      unanswered.get(of)?.(error ? createRPCError(error[0], error[1]) : payload);
      unanswered.delete(of);
      return;
    }
    obey(command).then(
      (result) => tell({ of: command.id, result }),
      (error) => tell({ of: command.id, error: [error.rpcErrorCode ?? error.name, error.message] })
    );
  })
  .on("close", () => process.exit(0));
tell({ saw: "ready" });
