package harness

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
)

// StartWithLogPipe starts the program with a pipe as its output, and returns the end of
// the pipe to read from.
func (p *Proxy) StartWithLogPipe(format string) *os.File {
	p.t.Helper()
	from, to, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { from.Close() })
	p.StartWithLogFile(format, to)
	return from
}

// StartWithLogFile starts the program with a file as its output, and closes the file in
// this process.
func (p *Proxy) StartWithLogFile(format string, to *os.File) {
	p.t.Helper()
	cmd := exec.Command(program, "serve", "--config", p.Config)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(p.Env, "MQTT_AUTH_PROXY_LOG_FORMAT="+format), to, to
	p.Process = &Process{Cmd: cmd, Stdout: NewOutput(), Stderr: NewOutput(), Exited: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	to.Close()
	go func() {
		defer close(p.Exited)
		_ = cmd.Wait()
		p.status = cmd.ProcessState.ExitCode()
	}()
	p.t.Cleanup(p.Kill)
	p.AwaitServing()
}

// LogLine is one line of the log in JSON.
type LogLine map[string]any

// String returns the value of a field, or "" if that is no string.
func (l LogLine) String(field string) string {
	s, _ := l[field].(string)
	return s
}

// AwaitLog waits for a line of the log that matches, and returns it. what names the line
// in error messages.
func (p *Proxy) AwaitLog(what string, match func(LogLine) bool) LogLine {
	p.t.Helper()
	var found LogLine
	p.Await(p.t, p.Stderr, what+" in the log", func(text string) bool {
		for line := range strings.Lines(text) {
			var l LogLine
			if json.Unmarshal([]byte(line), &l) == nil && match(l) {
				found = l
				return true
			}
		}
		return false
	})
	return found
}
