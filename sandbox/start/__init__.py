"""From a bundle to a confined handler: find the policy, install it, exec. Imports almost nothing."""
