// Package refusals keeps the last refusals of a proxy, so that an operator can ask why a device
// is refused, and counts them by reason.
//
//	kept := refusals.New(10000)
//	srv := &proxy.Server{Trace: proxy.Trace{Refused: kept.Add}}
//	page := kept.List(refusals.Filter{ClientID: "pump-7", Limit: 100}) // newest first
//
// All refusals of one device for one reason are one row, with a count and the times of the first
// and the last, so that a device that tries again and again takes no room from others. A device is
// identified by its subject if its token is known, and otherwise by its client id and address
// (IPv6: /64), or by the address alone. A row shows the details of the last refusal.
//
// # Bounds
//
// Rows are bounded in number and in bytes, see [New]. Devices choose the texts, so these are
// truncated, and characters that cannot be printed are escaped. A row can therefore be shown in a
// terminal or a page of HTML like any other text. A row has the fingerprint of a token, never the
// token.
//
// When there is no room, the party with the most rows loses its oldest row. If several have as
// many, it is the one with the oldest row. A party is a subject, or an address for devices whose
// token is not known. Addresses lose rows first while they have more than half of the room. A flood
// from one address, or of guessed client ids, therefore does not push out the rows of others.
package refusals
