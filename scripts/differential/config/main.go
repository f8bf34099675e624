// The judge of scripts/differential/config/run.py: Prometheus' own reader of configurations.
//
// Reads configurations from standard input (each preceded by a line with its length in bytes, or a line "file PATH") and
// answers one line each:
// "ok" with what the jobs come to, or "bad" with Prometheus' own words.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sort"
	"strconv"
	"strings"

	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/dns"
	"github.com/prometheus/prometheus/discovery/file"
	"github.com/prometheus/prometheus/discovery/http"
	"github.com/prometheus/prometheus/model/relabel"
)

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "file "); ok {
			fmt.Fprintln(out, judgeFile(path))
			out.Flush()
			continue
		}
		length, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			panic(err)
		}
		text := make([]byte, length)
		if _, err := io.ReadFull(in, text); err != nil {
			panic(err)
		}
		fmt.Fprintln(out, judge(string(text)))
		out.Flush()
	}
}

func judge(text string) (answer string) {
	defer func() {
		if r := recover(); r != nil {
			answer = fmt.Sprintf("panic\t%v", r)
		}
	}()
	cfg, err := config.Load(text, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		return bad(err)
	}
	return summary(cfg.ScrapeConfigs)
}

func judgeFile(path string) string {
	cfg, err := config.LoadFile(path, false, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		return bad(err)
	}
	jobs, err := cfg.GetScrapeConfigs()
	if err != nil {
		return bad(err)
	}
	return summary(jobs)
}

func bad(err error) string {
	return "bad\t" + strings.ReplaceAll(err.Error(), "\n", " | ")
}

func summary(configs []*config.ScrapeConfig) string {
	jobs := []any{}
	for _, c := range configs {
		sources := []any{}
		for _, source := range c.ServiceDiscoveryConfigs {
			switch source := source.(type) {
			case discovery.StaticConfig:
				for _, group := range source {
					targets := []string{}
					for _, target := range group.Targets {
						targets = append(targets, string(target[model.AddressLabel]))
					}
					sources = append(sources, []any{"static", targets, orEmpty(group.Labels)})
				}
			case *file.SDConfig:
				sources = append(sources, []any{"file", len(source.Files), ms(source.RefreshInterval)})
			case *http.SDConfig:
				sources = append(sources, []any{"http", source.URL, ms(source.RefreshInterval), client(source.HTTPClientConfig)})
			case *dns.SDConfig:
				port := source.Port
				sources = append(sources, []any{"dns", source.Names, strings.ToUpper(source.Type), port, ms(source.RefreshInterval)})
			}
		}
		sort.SliceStable(sources, func(i, k int) bool { return order(sources[i]) < order(sources[k]) })
		params := c.Params
		if params == nil {
			params = map[string][]string{}
		}
		jobs = append(jobs, map[string]any{
			"name": c.JobName, "interval": ms(c.ScrapeInterval), "timeout": ms(c.ScrapeTimeout),
			"path": c.MetricsPath, "scheme": c.Scheme, "params": params,
			"honor_labels": c.HonorLabels, "honor_timestamps": c.HonorTimestamps, "compression": c.EnableCompression,
			"legacy":  c.MetricNameValidationScheme == "legacy",
			"limits":  []any{c.SampleLimit, c.TargetLimit, c.LabelLimit, c.LabelNameLengthLimit, c.LabelValueLengthLimit, max(0, int64(c.BodySizeLimit))},
			"relabel": rules(c.RelabelConfigs), "metric_relabel": rules(c.MetricRelabelConfigs),
			"http": client(c.HTTPClientConfig), "sources": sources,
		})
	}
	text, _ := json.Marshal(jobs)
	return "ok\t" + string(text)
}

func ms(d model.Duration) int64 { return int64(d) / 1e6 }

func order(source any) int {
	return strings.Index("static file http dns", source.([]any)[0].(string))
}

func orEmpty(labels model.LabelSet) model.LabelSet {
	if labels == nil {
		return model.LabelSet{}
	}
	return labels
}

func rules(configs []*relabel.Config) []any {
	rules := []any{}
	for _, c := range configs {
		names := []string{}
		for _, name := range c.SourceLabels {
			names = append(names, string(name))
		}
		rules = append(rules, []any{names, c.Separator, c.Regex.String(), c.Modulus, c.TargetLabel, c.Replacement, string(c.Action)})
	}
	return rules
}

func client(c commonconfig.HTTPClientConfig) []any {
	auth := []any{"none"}
	switch {
	case c.BasicAuth != nil:
		auth = []any{"basic", c.BasicAuth.Username + "|" + c.BasicAuth.UsernameFile, string(c.BasicAuth.Password) + "|" + c.BasicAuth.PasswordFile}
	case c.Authorization != nil:
		auth = []any{"header", c.Authorization.Type, string(c.Authorization.Credentials) + "|" + c.Authorization.CredentialsFile}
	case c.OAuth2 != nil:
		auth = []any{"oauth2", c.OAuth2.ClientID, string(c.OAuth2.ClientSecret) + "|" + c.OAuth2.ClientSecretFile, c.OAuth2.TokenURL}
	}
	headers := 0
	if c.HTTPHeaders != nil {
		for _, h := range c.HTTPHeaders.Headers {
			headers += len(h.Values) + len(h.Secrets) + len(h.Files)
		}
	}
	tls := c.TLSConfig
	return []any{
		auth, c.FollowRedirects, headers,
		tls.CA + "|" + tls.CAFile, tls.Cert + "|" + tls.CertFile, string(tls.Key) + "|" + tls.KeyFile, tls.ServerName, tls.InsecureSkipVerify,
	}
}
