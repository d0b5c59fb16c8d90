// --- generated from here, by server/clients/generate ---

// --- generated up to here ---
