"""The endpoint watch: what Kubernetes knows of the hosts, written into the view as evidence::

objects    EndpointSlices and pods, read from JSON              decisions
evidence   what lists and events add up to, per pod             decisions
verdicts   evidence and the view: what is to be done            decisions
config     what to watch, and which API server                  decisions
api        lists and watches over HTTP                          adapter (asyncio)
reflector  follow one collection for ever                       adapter (asyncio)
watcher    both collections in, evidence out                    adapter (asyncio)
keeper     evidence into the registry                           adapter (Trio)
    service    what a host runs of all this                         adapter (Trio)
"""
