# The image holds the two daemons and nothing else; they are static. `make image` builds it.
FROM scratch
COPY bin/controller /controller
COPY bin/speaker /speaker
USER 65532:65532
