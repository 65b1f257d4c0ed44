// Package cloudflare stands in for pulumi-cloudflare 6.17.0.
package cloudflare

import (
	"errors"

	"overlord/sandbox/providers/kit"
)

type call = kit.Call[*client]

// Provider is the table of everything this plugin knows.
func Provider() kit.Provider[*client] {
	return kit.Provider[*client]{
		Name:    "cloudflare",
		Version: "6.17.0",
		Config: []kit.Field{
			{Name: "apiToken", Type: kit.String, Secret: true, Env: []string{"CLOUDFLARE_API_TOKEN"}},
			{Name: "baseUrl", Type: kit.String, Env: []string{"CLOUDFLARE_BASE_URL"}, Default: "https://api.cloudflare.com/client/v4"},
			{Name: "userAgentOperatorSuffix", Type: kit.String, Env: []string{"CLOUDFLARE_USER_AGENT_OPERATOR_SUFFIX"}},
		},
		Connect: connect,
		Resources: []kit.Resource[*client]{
			dnsRecord, zoneSetting, loadBalancer, loadBalancerPool, loadBalancerMonitor, ruleset,
			originCaCertificate, workersScript, workersCronTrigger, workersCustomDomain,
		},
		Functions: []kit.Function[*client]{getIPRanges},
		Gone:      gone,
		Explain:   explain,
	}
}

func connect(config kit.Props) (*client, error) {
	token := config.String("apiToken")
	if token == "" {
		return nil, errors.New("missing Cloudflare API token: set it in the environment variable CLOUDFLARE_API_TOKEN, " +
			"or with `pulumi config set --secret cloudflare:apiToken`")
	}
	return newClient(config.String("baseUrl"), token), nil
}
