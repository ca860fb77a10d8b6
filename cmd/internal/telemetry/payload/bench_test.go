package payload

import (
	"strings"
	"testing"
	"time"
)

func BenchmarkParse(b *testing.B) {
	for _, c := range []struct{ name, payload string }{
		{"quickstart", `{"temperature":25}`},
		{"unquoted", `{temperature:25}`},
		{"10keys", `{"ts":1700000000123,"values":{"temperature":21.5,"humidity":40,"pressure":1013.25,"battery":"3.71","rssi":-71,` +
			`"state":"running","door":false,"errors":0,"firmware":"1.4.2","position":{"lat":52.5,"lon":13.4}}}`},
		// Hostile: the time a megabyte may cost.
		{"megabyte/numbers", `{"a":[` + strings.Repeat("1,", 19_000) + `1]` + strings.Repeat(" ", 1<<20-38_100) + `}`},
		{"megabyte/string", `{"a":"` + strings.Repeat(`\n`, 1<<19-10) + `"}`},
		{"megabyte/comments", `{"a":1` + strings.Repeat("/**/", 1<<18-10) + `}`},
		{"megabyte/digits", `{"a":` + strings.Repeat("9", 1<<20-10) + `}`},
		{"megabyte/duplicates", `{` + strings.Repeat(`a:1,`, 19_000) + `a:1}`},
	} {
		b.Run(c.name, func(b *testing.B) {
			data := []byte(c.payload)
			at := time.UnixMilli(now)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(data, at, Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
