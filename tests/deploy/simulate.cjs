// Evaluates IAM policies: reads a JSON array of simulations, and prints the array of their results.
const { runSimulation } = require('@cloud-copilot/iam-simulate')

async function main() {
  const results = []
  for (const simulation of JSON.parse(require('fs').readFileSync(0, 'utf8'))) {
    const result = await runSimulation({ serviceControlPolicies: [], resourceControlPolicies: [], ...simulation }, {})
    results.push(result.overallResult ?? JSON.stringify(result))
  }
  console.log(JSON.stringify(results))
}

main()
