package service

import (
	"context"
	"path/filepath"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/page"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/page/history"
)

// recordHistory records what the graphs of the page show, until ctx is done.
func (s *Service) recordHistory(ctx context.Context) {
	ticker := time.NewTicker(history.Step)
	defer ticker.Stop()
	for {
		s.history.Add(s.reading())
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// reading returns the counts of this moment.
func (s *Service) reading() history.Reading {
	now, totals, server := time.Now(), s.observer.Totals(), s.server.Stats()
	r := history.Reading{
		At:     now,
		Levels: map[string]float64{page.SeriesSessions: float64(server.Sessions), page.SeriesMemory: float64(s.memoryStatus().Used)},
		Totals: map[string]float64{
			page.SeriesConnects: totals.Opened, page.SeriesBytesUp: float64(server.Up), page.SeriesBytesDown: float64(server.Down),
		},
		Times: totals.Connect,
	}
	for reason, n := range totals.Refused {
		if n > 0 {
			r.Totals[page.SeriesRefused+string(reason)] = n
		}
	}
	if s.bundled != nil {
		b := s.bundled.broker.Stats()
		r.Totals[page.SeriesMessagesIn], r.Totals[page.SeriesMessagesOut] = float64(b.MessagesIn), float64(b.MessagesOut)
	}
	return r
}

// listenersOfPage returns where devices can connect with mosquitto_pub.
func (s *Service) listenersOfPage() (all []page.Listener) {
	in := s.current.Load()
	for _, l := range in.listeners {
		if port := portOf(l.Addr()); port > 0 && l.config.WebSocket == nil && l.nth == 0 {
			shown := page.Listener{Name: l.config.Name, Port: port, TLS: l.config.TLS != nil}
			if shown.TLS && l.config.TLS.Auto {
				shown.CA = filepath.Base(ownAuthority(in.config).CertificateFile())
			}
			all = append(all, shown)
		}
	}
	return all
}
