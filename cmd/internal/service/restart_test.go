package service

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
)

// madeAtTheStart are the sections of which parts are made once, when the program starts.
var madeAtTheStart = []string{"data", "sandbox", "log.", "telemetry.", "replicas."}

// changesWhileRunning are keys in those sections that a reload nevertheless changes.
var changesWhileRunning = map[string]bool{"log.level": true, "log.sessions": true, "log.lines_per_second": true}

// alsoAtTheStart are keys in other sections that a reload does not change.
var alsoAtTheStart = map[string]bool{"limits.write_timeout": true}

// TestReloadRefusesWhatNeedsARestart: a key whose value is used only at the start would
// otherwise look as if it had been changed. A key that is new in one of the sections above
// has its line in needsRestart, or is listed here.
func TestReloadRefusesWhatNeedsARestart(t *testing.T) {
	now, seen, listed := defaultConfig(t), 0, restartParagraph(t)
	for _, k := range config.Keys() {
		if strings.Contains(k.Path, "[]") {
			continue
		}
		next := defaultConfig(t)
		if !alter(reflect.ValueOf(next).Elem(), strings.Split(k.Path, ".")) {
			continue // a list
		}
		seen++
		want := alsoAtTheStart[k.Path]
		for _, section := range madeAtTheStart {
			want = want || strings.HasPrefix(k.Path, section) && !changesWhileRunning[k.Path]
		}
		err := needsRestart(now, next)
		if refused := err != nil && refuses(err, k.Path); refused != want {
			t.Errorf("%s: needsRestart = %v, want it refused: %v", k.Path, err, want)
		}
		section, _, _ := strings.Cut(k.Path, ".")
		if want && !strings.Contains(listed, "`"+k.Path+"`") && !strings.Contains(listed, "`"+section+".*`") {
			t.Errorf("%s is not in the manual's list of keys that need a restart", k.Path)
		}
	}
	if seen < 40 {
		t.Errorf("only %d keys were changed", seen)
	}
}

// restartParagraph returns what the manual says about keys that need a restart.
func restartParagraph(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(manualPath)
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "**A restart is needed for**")
	paragraph, _, _ := strings.Cut(after, "\n- ")
	if !found {
		t.Fatal("the manual has no list of keys that need a restart")
	}
	return paragraph
}

// refuses reports whether err is about the key or a section that it is in.
func refuses(err error, key string) bool {
	for inSection := true; inSection; {
		if strings.Contains(err.Error(), key+": has changed and needs a restart") {
			return true
		}
		at := strings.LastIndexByte(key, '.')
		if inSection = at > 0; inSection {
			key = key[:at]
		}
	}
	return false
}

func defaultConfig(t *testing.T) *config.Config {
	t.Helper()
	c, err := config.Load(config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// alter gives the key at path another value, and makes the sections that it is in. It returns
// false if there is no such single value in v.
func alter(v reflect.Value, path []string) bool {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	if len(path) > 0 {
		if v.Kind() != reflect.Struct {
			return false
		}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if name == path[0] && f.IsExported() {
				return alter(v.Field(i), path[1:])
			}
		}
		return false
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + int64(time.Second))
	default:
		return false
	}
	return true
}
