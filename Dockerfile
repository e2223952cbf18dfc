# Compiles with the development dependencies, which stay behind in this stage.
FROM node:24-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc tsconfig.json ./
RUN npm ci --ignore-scripts
COPY src ./src
RUN npm run build

# What the node needs to run, and no more.
FROM node:24-slim AS production
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --ignore-scripts && npm cache clean --force

FROM node:24-slim
WORKDIR /app
ENV NODE_ENV=production LOOM_HOST=0.0.0.0
COPY --from=production /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY package.json ./
COPY migrations ./migrations
# By number, so that a platform which demands a user other than root can tell without reading /etc/passwd. It is `node`.
USER 1000:1000
EXPOSE 8787
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["node", "dist/main.js", "healthcheck"]
# No shell and no npm in between: SIGTERM reaches the node itself.
ENTRYPOINT ["node", "dist/main.js"]
CMD ["serve"]
