package cloudflare

import (
	"net/http"

	"overlord/sandbox/providers/kit"
)

var ipRangeFields = []kit.Field{
	{Name: "networks", Type: kit.String},
	{Name: "etag", Type: kit.String, Output: true},
	{Name: "ipv4Cidrs", Type: kit.List, Output: true},
	{Name: "ipv6Cidrs", Type: kit.List, Output: true},
	{Name: "jdcloudCidrs", Type: kit.List, Output: true},
}

var getIPRanges = kit.Function[*client]{
	Token:  "cloudflare:index/getIpRanges:getIpRanges",
	Fields: ipRangeFields,
	Invoke: func(c *call, args kit.Props) (kit.Props, error) {
		path := "ips"
		if networks := args.String("networks"); networks != "" {
			path += "?networks=" + networks
		}
		found, err := c.Client.object(c, http.MethodGet, path, nil)
		if err != nil {
			return nil, err
		}
		out := toLive(ipRangeFields, found)
		for _, name := range []string{"ipv4Cidrs", "ipv6Cidrs", "jdcloudCidrs"} {
			if out[name] == nil {
				out[name] = []any{}
			}
		}
		out["id"] = "ip_ranges"
		return out, nil
	},
}
