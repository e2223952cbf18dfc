# The base of every stage. docs/deploy.md explains how to pin it by its digest.
ARG NODE_IMAGE=docker.io/library/node:24-slim

# Compiles with the development dependencies, which the other stages leave out.
FROM ${NODE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc tsconfig.json ./
RUN npm ci --ignore-scripts
COPY src ./src
RUN npm run build

# Installs only what the node needs to run.
FROM ${NODE_IMAGE} AS production
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --ignore-scripts && npm cache clean --force

FROM ${NODE_IMAGE}
WORKDIR /app
ENV NODE_ENV=production LOOM_HOST=0.0.0.0
COPY --from=production /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY package.json ./
COPY migrations ./migrations
# The user `node`, by number: a platform that refuses root can tell without reading /etc/passwd.
USER 1000:1000
EXPOSE 8787
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["node", "dist/healthcheck.js"]
# Without a shell or npm in between, SIGTERM reaches the node.
ENTRYPOINT ["node", "dist/main.js"]
CMD ["serve"]
# Last, because they change with every commit: the layers above stay in the cache of the builder.
ARG NODE_IMAGE
ARG REVISION=unknown
LABEL org.opencontainers.image.title="LOOM" \
      org.opencontainers.image.description="Keeps an application's state in PostgreSQL: named JSON documents, a hash-chained audit trail, and a restore that can be trusted." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${NODE_IMAGE}"
