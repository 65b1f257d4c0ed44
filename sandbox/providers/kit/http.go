package kit

import (
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Retry repeats a request that a vendor was too busy for, with growing pauses: for clients that
// do not do so by themselves.
type Retry struct {
	Tries    int
	Statuses []int
	Base     http.RoundTripper
}

// RoundTrip sends the request until it is answered with something else than one of the statuses.
func (r Retry) RoundTrip(req *http.Request) (*http.Response, error) {
	for try := 1; ; try++ {
		if try > 1 && req.GetBody != nil {
			body, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			req.Body = body
		}
		resp, err := r.Base.RoundTrip(req)
		if err != nil || try >= r.Tries || !slices.Contains(r.Statuses, resp.StatusCode) ||
			(req.Body != nil && req.GetBody == nil) {
			return resp, err
		}
		pause := pauseFor(resp, try)
		_ = resp.Body.Close()
		select {
		case <-req.Context().Done():
			return nil, req.Context().Err()
		case <-time.After(pause):
		}
	}
}

// longestPause is how long a vendor may ask us to wait before we tell the operator instead.
const longestPause = time.Minute

func pauseFor(resp *http.Response, try int) time.Duration {
	if seconds, err := strconv.ParseFloat(resp.Header.Get("Retry-After"), 64); err == nil && seconds >= 0 {
		return min(time.Duration(seconds*float64(time.Second)), longestPause)
	}
	pause := 0.5 * math.Pow(2, float64(try-1))
	return time.Duration(min(pause, 8) * (0.75 + rand.Float64()/4) * float64(time.Second))
}
