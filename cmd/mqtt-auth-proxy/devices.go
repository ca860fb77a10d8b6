package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/presence"
)

// devices is the devices list command and its flags.
type devices struct {
	*program
	subject, after          string
	connected, away, asJSON bool
	limit                   int
}

func (p *program) devicesCommand() *cobra.Command {
	d := &devices{program: p}
	c := &cobra.Command{Use: "devices", Short: "List the devices that were seen by a running proxy", Example: "  mqtt-auth-proxy devices list --connected"}
	list := &cobra.Command{
		Use:   "list",
		Short: "List devices with the times at which they were first and last seen",
		Long: `List devices with the times at which they were first and last seen, in the order of
their names, through the admin side of a running proxy. Address and token of the
admin side are those of --config and --data.`,
		Example: `  mqtt-auth-proxy devices list --away --limit 20`,
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return d.list(c.Context()) },
	}
	f := list.Flags()
	f.StringVar(&d.subject, "subject", "", "this `DEVICE` only")
	f.BoolVar(&d.connected, "connected", false, "only devices that are connected")
	f.BoolVar(&d.away, "away", false, "only devices that are not connected")
	f.IntVar(&d.limit, "limit", 100, "at most `N` devices; 0 means all")
	f.StringVar(&d.after, "after", "", "only devices after this `DEVICE`, for the next page")
	f.BoolVar(&d.asJSON, "json", false, "print JSON")
	list.MarkFlagsMutuallyExclusive("connected", "away")
	p.configFlags(list)
	p.completeSubject(list)
	c.AddCommand(list)
	return c
}

func (d *devices) list(ctx context.Context) error {
	if d.limit < 0 {
		return errors.New("--limit cannot be negative")
	}
	found, err := d.find(ctx)
	if err != nil {
		return err
	}
	if d.asJSON {
		return d.printJSON(found)
	}
	w := tabwriter.NewWriter(d.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SUBJECT\tCONNECTED\tFIRST SEEN\tLAST SEEN\tADDRESS")
	for _, v := range found.Devices {
		connected := "no"
		if v.Connected {
			connected = "yes"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", printable(v.Subject), connected, v.FirstSeen.Format(time.RFC3339), v.LastSeen.Format(time.RFC3339), v.Address)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if found.Next != "" {
		fmt.Fprintf(d.stderr, "there are more; --after %s shows the next\n", printable(found.Next))
	}
	return nil
}

// find returns the devices that the flags select, from as many pages as that takes.
func (d *devices) find(ctx context.Context) (presence.Page, error) {
	found := presence.Page{Devices: []presence.Device{}, Next: d.after}
	for {
		limit := presence.MaxLimit
		if d.limit > 0 {
			limit = min(limit, d.limit-len(found.Devices))
		}
		q := url.Values{"limit": {strconv.Itoa(limit)}}
		for name, value := range map[string]string{"subject": d.subject, "after": found.Next} {
			if value != "" {
				q.Set(name, value)
			}
		}
		if d.connected || d.away {
			q.Set("connected", strconv.FormatBool(d.connected))
		}
		var page presence.Page
		if err := d.call(ctx, http.MethodGet, "/v1/devices?"+q.Encode(), &page); err != nil {
			return presence.Page{}, err
		}
		found.Devices, found.Next = append(found.Devices, page.Devices...), page.Next
		if page.Next == "" || len(found.Devices) == d.limit {
			return found, nil
		}
	}
}
