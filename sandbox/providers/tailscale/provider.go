// Package tailscale stands in for pulumi-tailscale 0.29.2, through Tailscale's own client.
package tailscale

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"tailscale.com/client/tailscale/v2"

	"overlord/sandbox/providers/kit"
)

type call = kit.Call[*tailscale.Client]

// Provider is the table of everything this plugin knows.
func Provider() kit.Provider[*tailscale.Client] {
	return kit.Provider[*tailscale.Client]{
		Name:    "tailscale",
		Version: "0.29.2",
		Config: []kit.Field{
			{Name: "apiKey", Type: kit.String, Secret: true, Env: []string{"TAILSCALE_API_KEY"}},
			{Name: "baseUrl", Type: kit.String, Env: []string{"TAILSCALE_BASE_URL"}, Default: "https://api.tailscale.com"},
			{Name: "tailnet", Type: kit.String, Env: []string{"TAILSCALE_TAILNET"}, Default: "-"},
			{Name: "userAgent", Type: kit.String, Default: "overlord-provider/0.29.2"},
		},
		Connect:   connect,
		Resources: []kit.Resource[*tailscale.Client]{tailnetKey, acl},
		Gone:      tailscale.IsNotFound,
		Explain:   explain,
	}
}

func connect(config kit.Props) (*tailscale.Client, error) {
	key := config.String("apiKey")
	if path, isFile := strings.CutPrefix(key, "file:"); isFile {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("tailscale:apiKey: %w", err)
		}
		key = strings.TrimSpace(string(content))
	}
	if key == "" {
		return nil, errors.New("missing Tailscale API key: set it in the environment variable TAILSCALE_API_KEY, " +
			"or with `pulumi config set --secret tailscale:apiKey`")
	}
	base, err := url.Parse(config.String("baseUrl"))
	if err != nil || base.Host == "" {
		return nil, fmt.Errorf("tailscale:baseUrl: %q is not a URL", config.String("baseUrl"))
	}
	return &tailscale.Client{
		BaseURL:   base,
		APIKey:    key,
		Tailnet:   config.String("tailnet"),
		UserAgent: config.String("userAgent"),
		HTTP: &http.Client{Timeout: time.Minute, Transport: kit.Retry{
			// Not 500: the client cannot tell whether a key was made by then.
			Tries: 4, Statuses: []int{429, 502, 503, 504}, Base: http.DefaultTransport.(*http.Transport).Clone(),
		}},
	}, nil
}

// remedies tell the operator what to do about a status of the API.
var remedies = map[int]string{
	http.StatusUnauthorized: "check TAILSCALE_API_KEY: it is unknown or has expired; API keys live for at most 90 days",
	http.StatusForbidden:    "the API key's owner may not do this; an admin's key is needed",
	http.StatusPreconditionFailed: "the tailnet has a policy that this program did not write; import it with the id \"acl\", " +
		"or set overwriteExistingContent",
}

func explain(err error) error {
	var api tailscale.APIError
	if !errors.As(err, &api) {
		return err
	}
	if remedy, ok := remedies[api.Status]; ok {
		return fmt.Errorf("%w: %s", err, remedy)
	}
	return err
}
