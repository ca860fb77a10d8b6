//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"text/template"
)

//go:embed haproxy.cfg haproxy.lua nginx.conf mqtt-auth-proxy.yaml
var configs embed.FS

// target is a program that is compared, a column of the table.
type target struct {
	name, title string
	program     string   // to be found, empty for those of this repository
	configs     []string // templates of its files, its config first
	arguments   func(settings) []string
	version     []string // arguments that make it print its version
	// files is the number of files of an idle session, if not two.
	files func(transport string) int
	// collect says how to run its garbage collector; nil if it has none.
	collect func(settings) collect
}

// settings are the values for the templates of the config files.
type settings struct {
	Dir, Config       string // of this target
	Plain, TLS, Admin string // addresses
	Broker, Service   string // the sink's, and that of the token service if there is one
	Splice            bool
	Bundled           bool // no sink: the proxy's own broker answers
	Mapped, Ruled     bool
	Module            string // nginx's stream module, unless it is built in
}

// targets returns all that can be compared, in the order of the table.
func targets() []target {
	return []target{
		{
			name: "proxy", title: "mqtt-auth-proxy", configs: []string{"mqtt-auth-proxy.yaml"}, version: []string{"version"},
			arguments: func(s settings) []string { return []string{"serve", "--config", s.Config} },
			collect:   settings.profile,
		},
		{
			name: "haproxy", title: "HAProxy", program: "haproxy", configs: []string{"haproxy.cfg", "haproxy.lua"}, version: []string{"-v"},
			arguments: func(s settings) []string { return []string{"-db", "-f", s.Config} },
		},
		{
			name: "nginx", title: "nginx", program: "nginx", configs: []string{"nginx.conf"}, version: []string{"-v"},
			arguments: func(s settings) []string { return []string{"-e", "stderr", "-p", s.Dir, "-c", s.Config} },
		},
		{
			name: "relay", title: "bare Go relay",
			arguments: func(s settings) []string { return []string{"relay", s.Plain, s.TLS, s.Dir, s.Broker} },
			files: func(transport string) int {
				if transport == "plain" {
					return 6 // two pipes and the sockets
				}
				return 2
			},
			collect: func(settings) collect { return collect{} },
		},
	}
}

func targetNames() []string {
	var names []string
	for _, t := range targets() {
		names = append(names, t.name)
	}
	return names
}

// holds reports whether the target can have so many sessions with a limit of 20,000 files.
func (t target) holds(sessions int, transport string) bool {
	return t.files == nil || sessions*t.files(transport) < 20_000
}

// locate finds the program and its version.
func (t *target) locate(o options) (version string, err error) {
	switch t.name {
	case "proxy":
		t.program, err = filepath.Abs(o.binary)
	case "relay":
		t.program, err = os.Executable()
		return runtime.Version(), err
	default:
		t.program, err = find(t.program)
	}
	if err != nil {
		return "", err
	}
	out, err := exec.Command(t.program, t.version...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %v: %w", t.program, t.version, err)
	}
	// "mqtt-auth-proxy v1.2.3 ...", "HAProxy version 2.6.12 ...", "nginx version: nginx/1.22.1"
	m := regexp.MustCompile(`^(?:\S+ )(?:version:? )?(?:nginx/)?([^\s,]+)`).FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("%s %v says %q", t.program, t.version, out)
	}
	if t.name != "proxy" {
		return string(m[1]), nil
	}
	// Builds of the same version get different names, because the tool compares them.
	file, err := os.ReadFile(t.program)
	return fmt.Sprintf("%s (build %.4x)", m[1], sha256.Sum256(file)), err
}

// start runs the target in front of a broker, with its files in dir. The words of wrap come before
// its command line.
func (t target) start(ctx context.Context, s settings, l launch, wrap ...string) (*process, error) {
	for i, name := range t.configs {
		path := filepath.Join(s.Dir, name)
		if i == 0 {
			s.Config = path
		}
		if err := s.write(name, path); err != nil {
			return nil, err
		}
	}
	l.argv = append(append(wrap, t.program), t.arguments(s)...)
	p, err := l.start(ctx)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(p.serves(ctx, s.Plain), p.serves(ctx, s.TLS)); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

func (s settings) write(name, path string) error {
	t, err := template.ParseFS(configs, name)
	if err != nil {
		return err
	}
	const module = "/usr/lib/nginx/modules/ngx_stream_module.so" // where Debian has it
	if _, err := os.Stat(module); err == nil {
		s.Module = module
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(t.Execute(f, s), f.Close())
}
