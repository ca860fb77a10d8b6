package telemetrytest_test

import (
	"context"
	"errors"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/sqlite"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/telemetrytest"
)

// faulty is a store that breaks one rule.
type faulty struct {
	telemetry.Store
	fault string
}

func (f faulty) Append(ctx context.Context, device string, messages []payload.Message) error {
	changed := slices.Clone(messages)
	for i := range changed {
		switch f.fault {
		case "replaces what arrived":
			changed[i].Arrived = false
		case "never replaces":
			changed[i].Arrived = true
		case "loses types":
			changed[i].Fields = []payload.Field{{Key: "a", Value: payload.Text("1")}}
		}
	}
	err := f.Store.Append(ctx, device, changed)
	if err != nil && f.fault == "hides whose fault it was" {
		return errors.New("failed")
	}
	return err
}

func (f faulty) Messages(ctx context.Context, r telemetry.Range) iter.Seq2[payload.Message, error] {
	switch f.fault {
	case "knows one order":
		r.Descending = false
	case "includes the end":
		r.End++
	}
	return f.Store.Messages(ctx, r)
}

func (f faulty) Attributes(ctx context.Context, device string, scope telemetry.Scope, keys ...string) iter.Seq2[telemetry.KeyPoint, error] {
	if f.fault == "ignores the keys" {
		keys = nil
	}
	return f.Store.Attributes(ctx, device, scope, keys...)
}

// faultEnv holds the fault of the store that TestFaultyStore checks.
const faultEnv = "TELEMETRYTEST_FAULT"

// TestFaultyStore fails in the process that TestSuiteFindsFaults starts, and does nothing
// elsewhere.
func TestFaultyStore(t *testing.T) {
	fault, ok := os.LookupEnv(faultEnv)
	if !ok {
		return
	}
	telemetrytest.Run(t, telemetrytest.Suite{New: func(t *testing.T, o telemetrytest.Options) telemetrytest.Fixture {
		with := sqlite.Options{Path: filepath.Join(t.TempDir(), "t.db"), Durability: "none", MaxBytes: o.MaxBytes}
		open := func() telemetry.Store {
			s, err := sqlite.Open(context.Background(), with)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			return faulty{s, fault}
		}
		s := open()
		return telemetrytest.Fixture{
			Store: s, Now: time.Now, Advance: func(time.Duration) {},
			Usage:  func() (counted, stored map[string]int64) { return nil, nil },
			Reopen: func() telemetry.Store { _ = s.Close(); return open() },
		}
	}})
}

func TestSuiteFindsFaults(t *testing.T) {
	for fault, check := range map[string]string{
		"replaces what arrived":    "ArrivedMessagesAreKept",
		"never replaces":           "SameTimeIsMerged",
		"loses types":              "Types",
		"hides whose fault it was": "Closed",
		"knows one order":          "Ranges",
		"includes the end":         "Ranges",
		"ignores the keys":         "Attributes",
		"never deletes":            "Retention",
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFaultyStore$/^"+check+"$")
		cmd.Env = append(os.Environ(), faultEnv+"="+fault)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "--- FAIL: TestFaultyStore/"+check) {
			t.Errorf("%s does not find a store that %s: %v\n%s", check, fault, err, out)
		}
	}
}
