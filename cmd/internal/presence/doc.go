// Package presence records when each device and each token was first and last seen.
//
//	recorder := presence.New(presence.Options{
//		Target:  func() presence.Target { return presence.Target{Path: "state.db"} },
//		Clients: server.Clients,
//	})
//	server.Trace.Opened, server.Trace.Closed, server.Trace.Renewed = recorder.Opened, recorder.Closed, recorder.Renewed
//	go recorder.Run(ctx)
//	...
//	page, err := recorder.Devices(ctx, presence.Query{Limit: 100})
//	...
//	recorder.Close(ctx)
//
// # What is recorded
//
// For each subject it records when its first session began, when it was last seen, the address that
// it had then, and whether it is connected. For each token id it records when it was last used. A
// device is seen when one of its sessions begins or ends, and every hour while it is connected, so
// that after a crash the time is at most an hour too early. If there are more than [MaxSubjects],
// the oldest are deleted.
//
// # Nothing waits for it
//
// The hooks only write into a map, with one entry for a subject, which Run writes to the store
// every ten seconds and Close at the end. If the map is full because the store fails, further
// subjects are counted as lost. Devices are served whether the store works or not: while it fails,
// Run tries again every ten seconds, and [Recorder.Fault] says why.
//
// # The store
//
// It is an SQLite file, or tables of the schema in package tokenpostgres that several proxies
// share. A damaged file is renamed, and a new one is made. A file of another program or of a newer
// version is left alone, and nothing is recorded. A row of the tables names the proxy that the
// device is connected to, so that each proxy knows the devices of the others, up to ten seconds
// late.
package presence
