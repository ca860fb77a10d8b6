package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/host"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/service"
)

func (p *program) serveCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy",
		Long: `Run the proxy until SIGINT or SIGTERM. Then it accepts no more connections, ends
all sessions one after the other and exits with status 0. A second signal cuts the
remaining sessions. SIGHUP reloads the config file and every file that it names.

Without a config file the proxy listens on 127.0.0.1:1883 (plain) and :8883 (TLS,
with a certificate that it creates), checks tokens with tokens.jsonl in the data
directory and runs a bundled broker that stores telemetry. The first start creates
a device "demo" and prints its token once. That token expires after a day.`,
		Example: `  mqtt-auth-proxy serve
  mqtt-auth-proxy serve --config /etc/mqtt-auth-proxy/proxy.yaml --data /var/lib/mqtt-auth-proxy`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return p.serve(c.Context()) },
	}
	p.configFlags(c)
	return c
}

// serve takes the signals of the process. Every other command is ended by them at once.
func (p *program) serve(ctx context.Context) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	terminal := isTerminal(p.stderr)
	p.detach()
	plan, err := p.loadPlan()
	if err != nil {
		return err
	}
	defer plan.Close()
	level, err := zap.ParseAtomicLevel(plan.Log.Level)
	if err != nil {
		return fmt.Errorf("log.level: %w", err)
	}
	lines, err := observe.NewLog(p.stderr, level, logFormat(plan.Log.Format, terminal))
	if err != nil {
		return err
	}
	redirectStandardLog(lines.Writer())
	s, err := service.New(ctx, plan, service.Process{
		Log: lines, Level: level, Config: p.configOptions(), Version: version(), Sockets: host.InheritSockets(), SetHeap: host.HeapLimiter(),
	})
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Run(signals, p.stdout)
}

// logFormat returns the configured format. Without one it is console on a terminal and json
// elsewhere.
func logFormat(configured string, terminal bool) string {
	switch {
	case configured != "":
		return configured
	case terminal:
		return "console"
	}
	return "json"
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
