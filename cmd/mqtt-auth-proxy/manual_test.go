package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
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

func TestManualListsEveryKey(t *testing.T) {
	text, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	begin := []byte("-run Manual -update -->\n")
	head, rest, ok := bytes.Cut(text, begin)
	_, tail, ok2 := bytes.Cut(rest, []byte("<!-- end of keys -->"))
	if !ok || !ok2 {
		t.Fatal("the marks around the table are gone")
	}
	want := string(head) + string(begin) + keyTable() + "<!-- end of keys -->" + string(tail)
	if string(text) == want {
		return
	}
	if *update {
		if err := os.WriteFile(manual, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Error("the table of keys is not what the program has: run go test ./cmd/mqtt-auth-proxy -run Manual -update")
}

// TestManualListsEveryCommand: what help shows stands in the manual.
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
