// What a device with mqtt.js does: connect, subscribe, and send itself a message
// at every QoS, in every version, by every URL; then connect with a token
// that is wrong. Prints a JSON object for each connection.
//
//   node story.mjs CA-FILE TOKEN mqtt://... mqtts://... ws://... wss://...

import { readFileSync } from 'node:fs'
import mqtt from 'mqtt'

const [authority, token, ...urls] = process.argv.slice(2)

const versions = {
  '3.1': { protocolId: 'MQIsdp', protocolVersion: 3 },
  '3.1.1': { protocolVersion: 4 },
  '5.0': { protocolVersion: 5 },
}

const connect = (url, version, username) =>
  mqtt.connectAsync(url, {
    ...versions[version],
    username,
    clientId: `js-${version}`,
    ca: readFileSync(authority),
    reconnectPeriod: 0,
    connectTimeout: 10_000,
  }, false)

async function roundTrip(url, version) {
  const client = await connect(url, version, token)
  const received = []
  const complete = new Promise((resolve) => {
    client.on('message', (topic, payload, packet) => {
      received.push({ payload: payload.toString(), qos: packet.qos })
      if (received.length === 3) resolve()
    })
  })
  const topic = `js/${new URL(url).protocol}/${version}`
  await client.subscribeAsync(topic, { qos: 2 })
  for (const qos of [0, 1, 2]) await client.publishAsync(topic, `at ${qos}`, { qos })
  await complete
  await client.endAsync()
  return received
}

for (const url of urls) {
  for (const version of Object.keys(versions)) {
    const received = await roundTrip(url, version)
    const refused = await connect(url, version, 'wrong').then(() => 0, (error) => error.code)
    console.log(JSON.stringify({ url, version, received, refused }))
  }
}
