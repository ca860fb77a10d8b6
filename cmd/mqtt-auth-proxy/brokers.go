package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
)

// brokers is the brokers command. It asks the admin side of the proxy that the configuration
// describes.
type brokers struct {
	*program
	asJSON bool // flag
	end    bool // flag
}

func (p *program) brokersCommand() *cobra.Command {
	b := &brokers{program: p}
	c := &cobra.Command{
		Use:   "brokers",
		Short: "List the brokers of a running proxy, and take them out of use",
		Long: `List the brokers of a running proxy, and take them out of use, through its admin side.
Address and token of the admin side are those of --config and --data.`,
		Example: `  mqtt-auth-proxy brokers list
  mqtt-auth-proxy brokers drain tcp://10.0.0.1:1883`,
	}
	c.AddCommand(b.listCommand(), b.drainCommand(), b.enableCommand())
	for _, sub := range c.Commands() {
		p.configFlags(sub)
	}
	return c
}

func (b *brokers) listCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the brokers and their state",
		Example: "  mqtt-auth-proxy brokers list",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return b.list(c.Context()) },
	}
	c.Flags().BoolVar(&b.asJSON, "json", false, "print JSON")
	return c
}

func (b *brokers) drainCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "drain SERVER",
		Short: "Send no new sessions to a broker",
		Long: `Send no new sessions to a broker until it is enabled again or the proxy restarts. A
reload does not change that. Existing sessions stay on the broker until their devices
connect again. With --end they are ended, spread over the time shutdown.spread.`,
		Example:           "  mqtt-auth-proxy brokers drain tcp://10.0.0.1:1883 --end",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: b.completeServers,
		RunE: func(c *cobra.Command, args []string) error {
			return b.change(c.Context(), "drain", map[string]any{"server": args[0], "end": b.end})
		},
	}
	c.Flags().BoolVar(&b.end, "end", false, "also end its sessions, one after the other")
	return c
}

func (b *brokers) enableCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "enable SERVER",
		Short:             "Send new sessions to a broker again",
		Long:              `Send new sessions to a broker again after it was drained.`,
		Example:           "  mqtt-auth-proxy brokers enable tcp://10.0.0.1:1883",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: b.completeServers,
		RunE: func(c *cobra.Command, args []string) error {
			return b.change(c.Context(), "enable", map[string]any{"server": args[0]})
		},
	}
}

func (b *brokers) list(ctx context.Context) error {
	var status admin.Status
	if err := b.call(ctx, http.MethodGet, "/v1/status", &status); err != nil {
		return err
	}
	if b.asJSON {
		return b.printJSON(status.Upstream)
	}
	if len(status.Upstream) == 0 {
		_, err := fmt.Fprintln(b.stderr, "The proxy uses its bundled broker.")
		return err
	}
	w := tabwriter.NewWriter(b.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SERVER\tSTATE\tSINCE\tSESSIONS\tFAILURES\tLAST ERROR")
	for _, s := range status.Upstream {
		since := "-"
		if s.Since != nil {
			since = s.Since.Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\n", s.Server, s.State, since, s.Sessions, s.Failures, printable(cmp.Or(s.LastError, "-")))
	}
	return w.Flush()
}

// change does one thing with a broker and prints its state.
func (b *brokers) change(ctx context.Context, action string, body map[string]any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	var s admin.BrokerStatus
	if err := b.send(ctx, http.MethodPost, "/v1/brokers/"+action, bytes.NewReader(text), &s); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(b.stdout, "%s is %s, with %d sessions\n", s.Server, s.State, s.Sessions); err != nil {
		return err
	}
	return b.warnOfNone(ctx)
}

// warnOfNone prints a warning if no broker takes sessions.
func (b *brokers) warnOfNone(ctx context.Context) error {
	var status admin.Status
	if err := b.call(ctx, http.MethodGet, "/v1/status", &status); err != nil {
		return err
	}
	for _, s := range status.Upstream {
		if s.State != "drained" && s.State != "down" {
			return nil
		}
	}
	_, err := fmt.Fprintln(b.stderr, "No broker takes new sessions now: devices that connect are refused with 3 / 0x88.")
	return err
}
