// What two devices with mqtt.js do behind a topic map: both use the same topics, and each
// gets its own messages alone. Prints a JSON object for each version and URL.
//
//   node topics.mjs CA-FILE TOKEN OTHER-TOKEN mqtts://... wss://...

import { readFileSync } from 'node:fs'
import mqtt from 'mqtt'

const [authority, token, otherToken, ...urls] = process.argv.slice(2)
const command = 'v1/devices/me/rpc/request/+'

async function device(url, version, username) {
  const client = await mqtt.connectAsync(url, {
    protocolVersion: version, username, ca: readFileSync(authority), reconnectPeriod: 0, connectTimeout: 10_000,
  }, false)
  client.received = []
  client.on('message', (topic, payload) => client.received.push(`${topic} ${payload}`))
  await client.subscribeAsync([command, 'weather'], { qos: 1 })
  return client
}

const refused = (client, filter) => client.subscribeAsync(filter, { qos: 1 })
  .then((granted) => granted.every((g) => g.qos >= 128), () => true)

for (const url of urls) {
  for (const version of [4, 5]) {
    const [pump, boiler] = [await device(url, version, token), await device(url, version, otherToken)]
    const denied = []
    for (const filter of ['#', '+/devices/#', 'v1/devices/boiler/#', '$share/x/#']) denied.push(await refused(pump, filter))
    await pump.publishAsync('v1/devices/me/telemetry', `pump ${version}`, { qos: 1 })
    await boiler.publishAsync('v1/devices/me/telemetry', `boiler ${version}`, { qos: 1 })
    await pump.publishAsync('v1/devices/me/rpc/request/1', 'for the pump', { qos: 1 })
    await boiler.publishAsync('v1/devices/me/rpc/request/1', 'for the boiler', { qos: 1 })
    await pump.publishAsync('weather', 'rain', { qos: 1 }) // behind what came before
    while (![pump, boiler].every((client) => client.received.includes('weather rain'))) await new Promise((tick) => setTimeout(tick, 5))
    console.log(JSON.stringify({ url, version, denied, pump: pump.received, boiler: boiler.received }))
    await Promise.all([pump.endAsync(), boiler.endAsync()])
  }
}
