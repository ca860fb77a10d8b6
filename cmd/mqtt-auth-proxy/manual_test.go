package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/refusals"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

const manual = "README.md"

var update = flag.Bool("update", false, "rewrite the manual's tables")

// keyTable is the manual's table of config keys, as the program knows them.
func keyTable() string {
	var b strings.Builder
	b.WriteString("| key | type | default | meaning |\n|---|---|---|---|\n")
	for _, k := range config.Keys() {
		kind := k.Type
		if k.Allowed != "" {
			kind += ": " + k.Allowed
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.Path, cell(kind), code(k.Default), cell(k.Doc))
	}
	return b.String()
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + cell(s) + "`"
}

func TestManualListsEveryKey(t *testing.T) { holdTable(t, "keys", keyTable()) }

// TestManualListsEveryRefusal: the manual's table agrees with that of the proxy.
func TestManualListsEveryRefusal(t *testing.T) { holdTable(t, "refusals", refusalTable()) }

// refusalTable is the manual's table of refusals, as the proxy knows them.
func refusalTable() string {
	var b strings.Builder
	b.WriteString("| reason | 3.1, 3.1.1 | 5.0 | fault of | level | situation |\n|---|---|---|---|---|---|\n")
	for _, r := range proxy.Reasons() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", r.Reason, answer(r.Instead, r.V3, "%d"), answer(r.Instead, r.V5, "0x%02X"),
			r.Fault, strings.ToLower(r.Level.String()), cell(r.Meaning))
	}
	return b.String()
}

// TestManualSaysWhatToDo: the manual has the advice of the program about each refusal.
func TestManualSaysWhatToDo(t *testing.T) { holdTable(t, "advice", adviceTable()) }

func adviceTable() string {
	var b strings.Builder
	b.WriteString("| reason | what to do |\n|---|---|\n")
	for _, r := range proxy.Reasons() {
		if advice := refusals.Advice(r.Reason); advice != "" {
			fmt.Fprintf(&b, "| `%s` | %s |\n", r.Reason, cell(advice))
		}
	}
	return b.String()
}

// answer is what a client gets: a packet with that code, and otherwise what instead says.
func answer(instead string, code packets.ReasonCode, format string) string {
	switch {
	case code != 0:
		return fmt.Sprintf(format, byte(code))
	case instead != "":
		return instead
	}
	return "closed"
}

// TestManualListsEveryCause: the manual's table agrees with that of the proxy.
func TestManualListsEveryCause(t *testing.T) { holdTable(t, "causes", causeTable()) }

// causeTable is the manual's table of the ends of sessions, as the proxy knows them.
func causeTable() string {
	var b strings.Builder
	b.WriteString("| cause | by | 5.0 | will | level | situation |\n|---|---|---|---|---|---|\n")
	for _, c := range proxy.Causes() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", c.Cause, strings.Join(c.By, ", "), answer(c.Instead, c.Code, "0x%02X"),
			c.Will, strings.ToLower(c.Level.String()), cell(c.Meaning))
	}
	return b.String()
}

// holdTable compares a table with the one between its marks in the manual. With -update it writes
// the table there.
func holdTable(t *testing.T, name, table string) {
	t.Helper()
	begin := "<!-- " + name + ": go test ./cmd/mqtt-auth-proxy -run Manual -update -->\n"
	end := "<!-- end of " + name + " -->"
	text := manualText(t)
	head, rest, ok := strings.Cut(text, begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("the marks around the table of %s are gone", name)
	}
	want := head + begin + table + end + tail
	switch {
	case text == want:
	case *update:
		if err := os.WriteFile(manual, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("the table of %s is not what the program has: run go test ./cmd/mqtt-auth-proxy -run Manual -update", name)
	}
}

// TestManualShowsEveryKindOfSource: the manual has a configuration with each kind of token source.
func TestManualShowsEveryKindOfSource(t *testing.T) {
	text := manualText(t)
	for f := range reflect.TypeFor[config.Source]().Fields() {
		if kind := f.Tag.Get("yaml"); !strings.Contains(text, "    - "+kind+":") {
			t.Errorf("the manual shows no source of the kind %s", kind)
		}
	}
}

// TestManualListsEveryCommand: the manual has the usage line of every command.
func TestManualListsEveryCommand(t *testing.T) {
	text := manualText(t)
	root := (&program{stdout: new(bytes.Buffer), stderr: new(bytes.Buffer)}).rootCommand()
	for _, c := range root.Commands() {
		if c.HasSubCommands() && c.Name() != "completion" {
			for _, sub := range c.Commands() {
				if want := "mqtt-auth-proxy " + c.Name() + " " + sub.Name(); !strings.Contains(text, want) {
					t.Errorf("the manual lacks %q", want)
				}
			}
		} else if want := "mqtt-auth-proxy " + c.Name(); !strings.Contains(text, want) {
			t.Errorf("the manual lacks %q", want)
		}
	}
}

func manualText(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
