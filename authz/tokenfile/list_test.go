package tokenfile

import (
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

func TestStateSaysWhyAnEntryIsNotGood(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		entry Entry
		want  string
	}{
		{Entry{}, Good},
		{Entry{Expires: now.Add(time.Second)}, Good},
		{Entry{Expires: now}, Expired},
		{Entry{Expires: now, Disabled: true}, Disabled},
		{Entry{Only: authz.Conditions{NotBefore: now}}, Good},
		{Entry{Only: authz.Conditions{NotBefore: now.Add(time.Second)}}, NotYetValid},
	} {
		if got := tt.entry.State(now); got != tt.want {
			t.Errorf("%+v is %s, want %s", tt.entry, got, tt.want)
		}
	}
}
