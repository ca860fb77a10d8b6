package telemetry

// maxKeys is the most keys of one device.
const maxKeys = 10_000
